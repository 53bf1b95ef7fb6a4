/* SPDX-License-Identifier: MIT
 *
 * handle: the objects call_soon, call_later and call_soon_threadsafe return,
 * and the one place that runs a user's callback.
 *
 * Layer: py, under loop. asyncio: events.Handle, TimerHandle, _ThreadSafeHandle;
 *   isinstance() holds, because `__class__` reports asyncio's types.
 * Owns: loop and context; callback and arguments until the callback has run or
 *   the handle is cancelled, which let go of them.
 * Threads: the loop's, but for cancel of a thread-safe handle.
 * Cost: made from a free list, one for each interpreter; none without the GIL.
 */
#ifndef HOOP_PY_HANDLE_H
#define HOOP_PY_HANDLE_H

#include "core/timers.h"
#include "py/compat.h"
#include "py/state.h"

struct LoopObject;

enum { PYHOOP_INLINE_ARGS = 4 };

enum pyhoop_handle_flag {
    PYHOOP_HANDLE_CANCELLED = 1,
    PYHOOP_HANDLE_PERSISTENT = 2, /* a reader's: runs more than once */
    PYHOOP_HANDLE_RUNNING = 4,    /* thread-safe handles only */
};

typedef struct HandleObject {
    PyObject_HEAD
    struct hoop_timer timer; /* its item is what the queues hold */
    struct LoopObject *loop;
    PyObject *callback;
    PyObject *context;
    union {
        PyObject *inlined[PYHOOP_INLINE_ARGS];
        PyObject *tuple; /* when there are more */
    } args;
    int arg_count;
    int flags;
    PyObject *when;             /* timer handles: as the caller gave it */
    PyObject *source_traceback; /* debug mode */
    PyObject *text;             /* debug mode: repr at the time it was cancelled; free: next */
    PyObject *weakrefs;
} HandleObject;

extern PyType_Spec pyhoop_handle_spec;
extern PyType_Spec pyhoop_timer_handle_spec;
extern PyType_Spec pyhoop_threadsafe_handle_spec;

/* A new handle of `type`, not queued yet. `context` NULL copies the current one. */
HandleObject *pyhoop_handle_new(PyTypeObject *type, struct LoopObject *loop, PyObject *callback,
                                PyObject *const *args, Py_ssize_t arg_count, PyObject *context);

/* asyncio's cancel(): the callback will not run, and what it refers to is let go. */
int pyhoop_handle_cancel(HandleObject *handle);

static inline HandleObject *pyhoop_handle_of_item(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, HandleObject, timer.item);
}

bool pyhoop_item_is_handle(const struct hoop_item *item);

void pyhoop_handles_clear_free(struct pyhoop_state *state);

#endif
