/* SPDX-License-Identifier: MIT
 *
 * awaitable: what the coroutines written in C have in common: the states of a
 * coroutine, its complaints, and how exceptions and values get in and out of it.
 *
 * Layer: py. Used by operation and stream_read, which have the objects.
 * Errors: the interpreter's own, with its texts.
 */
#ifndef HOOP_PY_AWAITABLE_H
#define HOOP_PY_AWAITABLE_H

#include <stdbool.h>

#include "py/compat.h"

enum pyhoop_await_state {
    PYHOOP_AWAIT_NEW,       /* until the first send() */
    PYHOOP_AWAIT_SUSPENDED, /* between the steps */
    PYHOOP_AWAIT_RUNNING,
    PYHOOP_AWAIT_FINISHED,
};

/* Whether `value` may be sent to it now; false with an exception. For throw(), send None. */
bool pyhoop_await_may_send(enum pyhoop_await_state state, PyObject *value);

/* Whether it may be closed now; false with an exception. */
bool pyhoop_await_may_close(enum pyhoop_await_state state);

/* Whether these are arguments of throw(); false with an exception, which is for its caller. */
bool pyhoop_await_may_throw(PyObject *const *args, Py_ssize_t nargs);

/* Sets the exception that such arguments mean. */
void pyhoop_await_raise(PyObject *const *args, Py_ssize_t nargs);

/* inner.throw(*args); `name`: "throw". */
PyObject *pyhoop_await_throw_into(PyObject *inner, PyObject *name, PyObject *const *args,
                                  Py_ssize_t nargs);

/* raise StopIteration(value), which it takes over; returns NULL. */
PyObject *pyhoop_await_stop(PyObject *value);

/* For the finalizer of one in the state NEW, which has the name `qualname`; NULL: it has an
 * exception instead. */
void pyhoop_await_warn(PyObject *op, PyObject *qualname);

#endif
