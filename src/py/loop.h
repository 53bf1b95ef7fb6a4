/* SPDX-License-Identifier: MIT
 *
 * loop: the C base of hoop.Loop: a core loop, and asyncio's API to it.
 *
 * Layer: py, over handle; transports and listeners know it. asyncio:
 *   BaseEventLoop and BaseSelectorEventLoop, whose cold methods are inherited
 *   by the Python class.
 * Owns: the core loop, and so every queued handle; readers; the scratch buffer.
 *   A transport or a listener that wants events is kept alive by the loop.
 * Threads: one, but for call_soon_threadsafe.
 */
#ifndef HOOP_PY_LOOP_H
#define HOOP_PY_LOOP_H

#include "core/loop.h"
#include "py/compat.h"
#include "py/handle.h"
#include "py/state.h"

typedef struct LoopObject {
    PyObject_HEAD
    struct hoop_loop core;
    struct pyhoop_state *state;
    PyObject *module;        /* keeps `state` until this loop and all its handles are gone */
    PyThreadState *released; /* while the GIL is let go around a wait */
    unsigned long thread_id; /* of the thread that runs it; 0: nobody */
    bool is_debug;
    bool is_closed;
    bool receives_much; /* so did the last socket operation (sock_receive.c) */
    bool accelerates_streams;
    bool overrides_time; /* a subclass or the instance replaces time or call_at */
    PyObject *task_factory;
    PyObject
        *loop_keyword; /* {'loop': self} for futures and tasks; made when needed, gone at close */
    char *scratch;     /* PYHOOP_SCRATCH_SIZE bytes, made at the first read */
    struct hoop_clock machine_clock; /* what time() reads; core.clock may be overridden */
} LoopObject;

/* What waits in this loop's queues and watches: the core's types, and how the collector gets to
 * the reference that queue or table holds. */
struct pyhoop_item_type {
    struct hoop_item_type core;
    int (*traverse)(struct hoop_item *item, visitproc visit, void *arg);
};

struct pyhoop_watch_type {
    struct hoop_watch_type core;
    int (*traverse)(struct hoop_watch *watch, visitproc visit, void *arg);
};

enum { PYHOOP_SCRATCH_SIZE = 256 * 1024 };

extern PyType_Spec pyhoop_loop_spec;

int pyhoop_loop_raise_not_open(LoopObject *self);

/* Raises RuntimeError and returns -1 if the loop is closed, or a forked child asks. */
static inline int pyhoop_loop_check_open(LoopObject *self) {
    if (!self->is_closed && !hoop_watches_are_inherited(&self->core.watches))
        return 0;
    return pyhoop_loop_raise_not_open(self);
}

/* True when called by the thread that runs the loop. */
static inline bool pyhoop_loop_is_here(const LoopObject *self) {
    return self->thread_id != 0 && self->thread_id == PyThread_get_thread_ident();
}

char *pyhoop_loop_scratch(LoopObject *self);

/* The only argument of a method, positional or by name, borrowed; NULL and TypeError. */
PyObject *pyhoop_one_argument(const char *function, const char *name, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames);

/* Calls loop.call_exception_handler with message, the current exception (which
 * is cleared), and up to two more (name, object) pairs. -1 if that raised. */
int pyhoop_loop_report(LoopObject *self, const char *message, const char *name1, PyObject *value1,
                       const char *name2, PyObject *value2);

/* loop_schedule.c */
PyObject *pyhoop_loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames);
PyObject *pyhoop_loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames);
PyObject *pyhoop_loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);
PyObject *pyhoop_loop_add_callback(PyObject *self, PyObject *handle);
PyObject *pyhoop_loop_add_callback_signalsafe(PyObject *self, PyObject *handle);
PyObject *pyhoop_loop_create_future(PyObject *self, PyObject *unused);
PyObject *pyhoop_loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames);

/* loop_run.c */
PyObject *pyhoop_loop_run_forever(PyObject *self, PyObject *unused);
PyObject *pyhoop_loop_run_forever_setup(PyObject *self, PyObject *unused);
PyObject *pyhoop_loop_run_forever_cleanup(PyObject *self, PyObject *unused);
PyObject *pyhoop_loop_run_until_complete(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *pyhoop_loop_run_once(PyObject *self, PyObject *unused);

#endif
