/* SPDX-License-Identifier: MIT */
#include "py/handle.h"

#include <stdbool.h>
#include <time.h>

#include "py/loop.h"

static int handle_item_run(struct hoop_item *item);
static void handle_item_drop(struct hoop_item *item);

static int handle_item_traverse(struct hoop_item *item, visitproc visit, void *arg);

static const struct pyhoop_item_type handle_item_type = {
    {handle_item_run, handle_item_drop},
    handle_item_traverse,
};

bool pyhoop_item_is_handle(const struct hoop_item *item) {
    return item->type == &handle_item_type.core;
}

/* ---- memory ---- */

/* All three types have one size, so they share a free list. Without the GIL there is none. */
static HandleObject *allocate(PyTypeObject *type, struct pyhoop_state *state) {
    if (PYHOOP_FREE_THREADED || state->free_handles == NULL)
        return PyObject_GC_New(HandleObject, type);
    HandleObject *handle = state->free_handles;
    state->free_handles = handle->text;
    state->free_handle_count--;
    return (HandleObject *)PyObject_Init((PyObject *)handle, type);
}

/* `state` NULL: the collector has taken the loop already. */
static void release(HandleObject *handle, struct pyhoop_state *state) {
    PyTypeObject *type = Py_TYPE(handle);
    if (PYHOOP_FREE_THREADED || state == NULL ||
        state->free_handle_count >= PYHOOP_MAX_FREE_HANDLES) {
        PyObject_GC_Del(handle);
    } else {
        handle->text = state->free_handles;
        state->free_handles = handle;
        state->free_handle_count++;
    }
    Py_DECREF(type);
}

void pyhoop_handles_clear_free(struct pyhoop_state *state) {
    while (state->free_handles != NULL) {
        HandleObject *handle = state->free_handles;
        state->free_handles = handle->text;
        PyObject_GC_Del(handle);
    }
    /* What is freed from here on goes back to the allocator. */
    state->free_handle_count = PYHOOP_MAX_FREE_HANDLES;
}

/* ---- fields ---- */

static PyObject *const *args_of(const HandleObject *handle) {
    if (handle->arg_count > PYHOOP_INLINE_ARGS)
        return ((PyTupleObject *)handle->args.tuple)->ob_item;
    return handle->args.inlined;
}

static int set_args(HandleObject *handle, PyObject *const *args, Py_ssize_t arg_count) {
    handle->arg_count = 0;
    if (arg_count > PYHOOP_INLINE_ARGS) {
        handle->args.tuple = PyTuple_New(arg_count);
        if (handle->args.tuple == NULL)
            return -1;
        for (Py_ssize_t i = 0; i < arg_count; i++)
            PyTuple_SET_ITEM(handle->args.tuple, i, Py_NewRef(args[i]));
    } else {
        for (Py_ssize_t i = 0; i < arg_count; i++)
            handle->args.inlined[i] = Py_NewRef(args[i]);
    }
    handle->arg_count = (int)arg_count;
    return 0;
}

static int owned_arg_count(int arg_count) {
    return arg_count > PYHOOP_INLINE_ARGS ? 1 : arg_count;
}

/* Lets go of what the callback needs; the handle stays valid and spent. */
static void clear_call(HandleObject *handle) {
    PyObject *owned[PYHOOP_INLINE_ARGS];
    int count = owned_arg_count(handle->arg_count);
    for (int i = 0; i < count; i++)
        owned[i] = handle->args.inlined[i];
    handle->arg_count = 0;
    Py_CLEAR(handle->callback);
    for (int i = 0; i < count; i++)
        Py_DECREF(owned[i]);
}

static PyObject *args_as_tuple(const HandleObject *handle) {
    if (handle->arg_count > PYHOOP_INLINE_ARGS)
        return Py_NewRef(handle->args.tuple);
    PyObject *tuple = PyTuple_New(handle->arg_count);
    for (int i = 0; tuple != NULL && i < handle->arg_count; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(handle->args.inlined[i]));
    return tuple;
}

HandleObject *pyhoop_handle_new(PyTypeObject *type, LoopObject *loop, PyObject *callback,
                                PyObject *const *args, Py_ssize_t arg_count, PyObject *context) {
    HandleObject *handle = allocate(type, loop->state);
    if (handle == NULL)
        return NULL;
    hoop_timer_init(&handle->timer, &handle_item_type.core);
    handle->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    handle->callback = NULL;
    handle->context = NULL;
    handle->flags = 0;
    handle->arg_count = 0;
    handle->when = NULL;
    handle->source_traceback = NULL;
    handle->text = NULL;
    handle->weakrefs = NULL;
    if (set_args(handle, args, arg_count) < 0)
        goto error;
    handle->callback = Py_NewRef(callback);
    handle->context = context != NULL ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (handle->context == NULL)
        goto error;
    if (loop->is_debug) {
        handle->source_traceback = PyObject_CallNoArgs(loop->state->cold_extract_stack);
        if (handle->source_traceback == NULL)
            goto error;
    }
    PyObject_GC_Track(handle);
    return handle;

error:
    PyObject_GC_Track(handle); /* dealloc untracks */
    Py_DECREF(handle);
    return NULL;
}

static int handle_traverse(PyObject *self, visitproc visit, void *arg) {
    HandleObject *handle = (HandleObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(handle->loop);
    Py_VISIT(handle->callback);
    int count = owned_arg_count(handle->arg_count);
    for (int i = 0; i < count; i++)
        Py_VISIT(handle->args.inlined[i]);
    Py_VISIT(handle->context);
    Py_VISIT(handle->when);
    Py_VISIT(handle->source_traceback);
    return 0;
}

static int handle_clear(PyObject *self) {
    HandleObject *handle = (HandleObject *)self;
    clear_call(handle);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->when);
    Py_CLEAR(handle->source_traceback);
    Py_CLEAR(handle->text);
    Py_CLEAR(handle->loop);
    return 0;
}

static void dispose(HandleObject *handle) {
    if (handle->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)handle);
    LoopObject *loop = handle->loop; /* keeps the state that `release` needs */
    handle->loop = NULL;
    (void)handle_clear((PyObject *)handle);
    release(handle, loop == NULL ? NULL : loop->state);
    Py_XDECREF(loop);
}

/* A handle may be the argument of the next one: chains of them don't recurse. One that has
 * run has let go of its arguments. */
static void handle_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    if (((HandleObject *)self)->callback == NULL) {
        dispose((HandleObject *)self);
        return;
    }
    Py_TRASHCAN_BEGIN(self, handle_dealloc);
    dispose((HandleObject *)self);
    Py_TRASHCAN_END;
}

/* ---- running ---- */

/* `args` has a writable place before its first element. What PyObject_Vectorcall does besides
 * (look up the thread state, check that a result and an exception exclude each other) is for
 * debug builds. */
static PyObject *call(const struct pyhoop_state *state, PyObject *callback, PyObject **args,
                      Py_ssize_t arg_count) {
    vectorcallfunc vectorcall = pyhoop_vectorcall_of(callback);
    size_t flagged_count = (size_t)arg_count | PY_VECTORCALL_ARGUMENTS_OFFSET;
    if (vectorcall != NULL)
        return vectorcall(callback, args, flagged_count, NULL);
    /* A task's step has no vectorcall: straight to its slot. */
    if (arg_count == 0 && Py_TYPE(callback)->tp_call != NULL)
        return Py_TYPE(callback)->tp_call(callback, state->empty_tuple, NULL);
    return PyObject_Vectorcall(callback, args, flagged_count, NULL);
}

/* 0, or -1 with the exception set that leaves the loop. */
static int report_error(HandleObject *handle, LoopObject *loop) {
    if (!PyErr_Occurred()) /* an extension's fault */
        PyErr_SetString(PyExc_SystemError, "a callback returned NULL without setting an exception");
    if (pyhoop_error_leaves_loop())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallFunctionObjArgs(loop->state->cold_report_callback_error, loop,
                                                    handle, exception, NULL);
    Py_DECREF(exception);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* What takes place on the way is `args` on the C stack: the callback may cancel
 * its own handle, which lets go of the handle's fields. */
static int run_callback(HandleObject *handle, LoopObject *loop, PyObject *callback, PyObject **args,
                        Py_ssize_t arg_count) {
    PyObject *context = handle->context;
    if (context == NULL) { /* a foreign handle enters its own */
        PyObject *result = call(loop->state, callback, args, arg_count);
        Py_XDECREF(result);
        return result == NULL ? report_error(handle, loop) : 0;
    }
    Py_INCREF(context);
    int rc = 0;
    if (PyContext_Enter(context) < 0) {
        rc = report_error(handle, loop);
    } else {
        PyObject *result = call(loop->state, callback, args, arg_count);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(result);
        if (result == NULL)
            rc = report_error(handle, loop);
        else
            Py_DECREF(result);
    }
    Py_DECREF(context);
    return rc;
}

/* Runs the callback and leaves the handle's fields as they are. */
static int run_and_keep(HandleObject *handle, LoopObject *loop) {
    PyObject *small[1 + PYHOOP_INLINE_ARGS];
    PyObject **args = small;
    Py_ssize_t arg_count = handle->arg_count;
    if (arg_count > PYHOOP_INLINE_ARGS) {
        args = PyMem_New(PyObject *, 1 + (size_t)arg_count);
        if (args == NULL) {
            PyErr_NoMemory();
            return report_error(handle, loop);
        }
    }
    PyObject *const *held = args_of(handle);
    for (Py_ssize_t i = 0; i < arg_count; i++)
        args[1 + i] = Py_NewRef(held[i]);
    PyObject *callback = Py_NewRef(handle->callback);
    int rc = run_callback(handle, loop, callback, args + 1, arg_count);
    Py_DECREF(callback);
    for (Py_ssize_t i = 0; i < arg_count; i++)
        Py_DECREF(args[1 + i]);
    if (args != small)
        PyMem_Free(args);
    return rc;
}

static int run_timed(HandleObject *handle, LoopObject *loop) {
    int64_t start_ns = hoop_loop_now_ns(&loop->core);
    int rc = run_and_keep(handle, loop);
    if (rc < 0)
        return rc;
    double seconds = (double)(hoop_loop_now_ns(&loop->core) - start_ns) / 1e9;
    PyObject *result =
        PyObject_CallFunction(loop->state->cold_report_slow_handle, "OOd", loop, handle, seconds);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The usual case: few arguments, run once. They move to the C stack and die here. */
static int run_once(HandleObject *handle, LoopObject *loop) {
    PyObject *args[1 + PYHOOP_INLINE_ARGS];
    int arg_count = handle->arg_count;
    for (int i = 0; i < arg_count; i++)
        args[1 + i] = handle->args.inlined[i];
    PyObject *callback = handle->callback;
    PyObject *context = handle->context;
    handle->callback = NULL;
    handle->arg_count = 0;

    if (PyContext_Enter(context) == 0) {
        PyObject *result = call(loop->state, callback, args + 1, arg_count);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(result);
        if (result != NULL) {
            Py_DECREF(result);
            Py_DECREF(callback);
            for (int i = 0; i < arg_count; i++)
                Py_DECREF(args[1 + i]);
            return 0;
        }
    }
    /* The report names callback and arguments: back into the handle with them. */
    if (handle->callback == NULL && !(handle->flags & PYHOOP_HANDLE_CANCELLED)) {
        handle->callback = callback;
        for (int i = 0; i < arg_count; i++)
            handle->args.inlined[i] = args[1 + i];
        handle->arg_count = arg_count;
        int rc = report_error(handle, loop);
        clear_call(handle);
        return rc;
    }
    int rc = report_error(handle, loop);
    Py_DECREF(callback);
    for (int i = 0; i < arg_count; i++)
        Py_DECREF(args[1 + i]);
    return rc;
}

static int run_handle(HandleObject *handle, LoopObject *loop) {
    if (loop->is_debug)
        return run_timed(handle, loop);
    if (handle->flags & PYHOOP_HANDLE_PERSISTENT || handle->context == NULL ||
        handle->arg_count > PYHOOP_INLINE_ARGS)
        return run_and_keep(handle, loop);
    return run_once(handle, loop);
}

static int handle_item_run(struct hoop_item *item) {
    HandleObject *handle = pyhoop_handle_of_item(item);
    LoopObject *loop = handle->loop;
    int rc = 0;
    if (!(handle->flags & PYHOOP_HANDLE_CANCELLED) && handle->callback != NULL) {
        handle->flags |= PYHOOP_HANDLE_RUNNING;
        rc = run_handle(handle, loop);
        handle->flags &= ~PYHOOP_HANDLE_RUNNING;
    }
    if (!(handle->flags & PYHOOP_HANDLE_PERSISTENT) && handle->callback != NULL)
        clear_call(handle);
    Py_DECREF(handle);
    return rc;
}

static void handle_item_drop(struct hoop_item *item) {
    Py_DECREF(pyhoop_handle_of_item(item));
}

static int handle_item_traverse(struct hoop_item *item, visitproc visit, void *arg) {
    Py_VISIT(pyhoop_handle_of_item(item));
    return 0;
}

int pyhoop_handle_cancel(HandleObject *handle) {
    if (handle->flags & PYHOOP_HANDLE_CANCELLED)
        return 0;
    LoopObject *loop = handle->loop;
    if (loop == NULL) { /* the collector has taken the handle apart; its loop follows */
        handle->flags |= PYHOOP_HANDLE_CANCELLED;
        return 0;
    }
    if (loop->is_debug) {
        handle->flags |= PYHOOP_HANDLE_CANCELLED;
        PyObject *text = PyObject_Repr((PyObject *)handle);
        if (text == NULL)
            return -1;
        Py_XSETREF(handle->text, text);
    }
    handle->flags |= PYHOOP_HANDLE_CANCELLED;
    bool was_armed = hoop_timer_is_armed(&handle->timer);
    if (was_armed)
        hoop_timers_cancel(&loop->core.timers, &handle->timer);
    clear_call(handle);
    if (was_armed)
        Py_DECREF(handle);
    return 0;
}

/* ---- Python's view ---- */

static PyObject *handle_cancel(PyObject *self, PyObject *unused) {
    (void)unused;
    if (pyhoop_handle_cancel((HandleObject *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_cancelled(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((HandleObject *)self)->flags & PYHOOP_HANDLE_CANCELLED);
}

/* Another thread that asks about a thread-safe handle is answered when its
 * callback is not running, as with asyncio's lock around both. */
static void wait_until_not_running(HandleObject *handle) {
    const struct timespec pause = {.tv_nsec = 50000};
    while (handle->flags & PYHOOP_HANDLE_RUNNING && !pyhoop_loop_is_here(handle->loop)) {
        Py_BEGIN_ALLOW_THREADS;
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS;
    }
}

static PyObject *threadsafe_handle_cancel(PyObject *self, PyObject *unused) {
    wait_until_not_running((HandleObject *)self);
    return handle_cancel(self, unused);
}

static PyObject *threadsafe_handle_cancelled(PyObject *self, PyObject *unused) {
    wait_until_not_running((HandleObject *)self);
    return handle_cancelled(self, unused);
}

static PyObject *handle_get_context(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *context = ((HandleObject *)self)->context;
    return Py_NewRef(context != NULL ? context : Py_None);
}

static PyObject *handle_run(PyObject *self, PyObject *unused) {
    (void)unused;
    HandleObject *handle = (HandleObject *)self;
    if (handle->callback == NULL)
        Py_RETURN_NONE;
    LoopObject *loop = (LoopObject *)Py_NewRef((PyObject *)handle->loop);
    int rc = run_and_keep(handle, loop);
    Py_DECREF(loop);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_when(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_NewRef(((HandleObject *)self)->when);
}

static PyObject *handle_repr(PyObject *self) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    return PyObject_CallOneArg(state->cold_describe_handle, self);
}

static PyObject *get_class(PyObject *self, void *unused) {
    (void)unused;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    return Py_NewRef(state->asyncio_handle);
}

static PyObject *get_timer_class(PyObject *self, void *unused) {
    (void)unused;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    return Py_NewRef(state->asyncio_timer_handle);
}

static PyObject *get_threadsafe_class(PyObject *self, void *unused) {
    (void)unused;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    return Py_NewRef(state->asyncio_threadsafe_handle);
}

static PyObject *or_none(PyObject *object) {
    return Py_NewRef(object != NULL ? object : Py_None);
}

static PyObject *get_callback(PyObject *self, void *unused) {
    (void)unused;
    return or_none(((HandleObject *)self)->callback);
}

static PyObject *get_args(PyObject *self, void *unused) {
    (void)unused;
    HandleObject *handle = (HandleObject *)self;
    return handle->callback == NULL ? Py_NewRef(Py_None) : args_as_tuple(handle);
}

static PyObject *get_cancelled(PyObject *self, void *unused) {
    (void)unused;
    return handle_cancelled(self, NULL);
}

static PyObject *get_context(PyObject *self, void *unused) {
    (void)unused;
    return handle_get_context(self, NULL);
}

static PyObject *get_loop(PyObject *self, void *unused) {
    (void)unused;
    return or_none((PyObject *)((HandleObject *)self)->loop);
}

static PyObject *get_source_traceback(PyObject *self, void *unused) {
    (void)unused;
    return or_none(((HandleObject *)self)->source_traceback);
}

static PyObject *get_text(PyObject *self, void *unused) {
    (void)unused;
    return or_none(((HandleObject *)self)->text);
}

static PyObject *get_scheduled(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(hoop_timer_is_armed(&((HandleObject *)self)->timer));
}

static PyObject *get_when(PyObject *self, void *unused) {
    (void)unused;
    return handle_when(self, NULL);
}

/* asyncio's TimerHandle: ordered and hashed by time, equal when all is equal. */
static PyObject *timer_richcompare(PyObject *self, PyObject *other, int operation) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    int is_timer = PyObject_IsInstance(other, state->asyncio_timer_handle);
    if (is_timer < 0)
        return NULL;
    if (!is_timer)
        Py_RETURN_NOTIMPLEMENTED;
    if (operation == Py_NE || operation == Py_EQ || operation == Py_LE || operation == Py_GE) {
        PyObject *mine =
            Py_BuildValue("(ONNN)", ((HandleObject *)self)->when, get_callback(self, NULL),
                          get_args(self, NULL), get_cancelled(self, NULL));
        PyObject *names[] = {PyUnicode_FromString("_when"), PyUnicode_FromString("_callback"),
                             PyUnicode_FromString("_args"), PyUnicode_FromString("_cancelled")};
        PyObject *theirs = PyTuple_New(4);
        bool failed = mine == NULL || theirs == NULL;
        for (int i = 0; i < 4; i++) {
            PyObject *value = failed || names[i] == NULL ? NULL : PyObject_GetAttr(other, names[i]);
            Py_XDECREF(names[i]);
            if (value == NULL)
                failed = true;
            else
                PyTuple_SET_ITEM(theirs, i, value);
        }
        int is_equal = failed ? -1 : PyObject_RichCompareBool(mine, theirs, Py_EQ);
        Py_XDECREF(mine);
        Py_XDECREF(theirs);
        if (is_equal < 0)
            return NULL;
        if (operation == Py_EQ || operation == Py_NE)
            return PyBool_FromLong(is_equal == (operation == Py_EQ));
        if (is_equal)
            Py_RETURN_TRUE;
        operation = operation == Py_LE ? Py_LT : Py_GT;
    }
    PyObject *when = PyObject_CallMethodNoArgs(other, state->str_when);
    if (when == NULL)
        return NULL;
    PyObject *result = PyObject_RichCompare(((HandleObject *)self)->when, when, operation);
    Py_DECREF(when);
    return result;
}

static Py_hash_t timer_hash(PyObject *self) {
    return PyObject_Hash(((HandleObject *)self)->when);
}

/* Entries that clang-format would take for blocks of statements. */
/* clang-format off */
#define HANDLE_METHODS(cancel_function, cancelled_function)                                        \
    {"cancel", cancel_function, METH_NOARGS, PyDoc_STR("Cancel the callback. asyncio.Handle.")},   \
    {"cancelled", cancelled_function, METH_NOARGS,                                                 \
     PyDoc_STR("Whether it was cancelled. asyncio.Handle.")},                                      \
    {"get_context", handle_get_context, METH_NOARGS,                                               \
     PyDoc_STR("The contextvars.Context it runs in. asyncio.Handle.")},                            \
    {"_run", handle_run, METH_NOARGS, PyDoc_STR("Run the callback now, for tools that wrap it.")}
/* clang-format on */

static PyMethodDef handle_methods[] = {
    HANDLE_METHODS(handle_cancel, handle_cancelled),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef threadsafe_handle_methods[] = {
    HANDLE_METHODS(threadsafe_handle_cancel, threadsafe_handle_cancelled),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
    HANDLE_METHODS(handle_cancel, handle_cancelled),
    {"when", handle_when, METH_NOARGS,
     PyDoc_STR("The time it is due, in seconds of loop.time(). asyncio.TimerHandle.")},
    {NULL, NULL, 0, NULL},
};

/* clang-format off */
#define HANDLE_GETSET                                                                              \
    {"_callback", get_callback, NULL, NULL, NULL},                                                 \
    {"_args", get_args, NULL, NULL, NULL},                                                         \
    {"_cancelled", get_cancelled, NULL, NULL, NULL},                                               \
    {"_context", get_context, NULL, NULL, NULL},                                                   \
    {"_loop", get_loop, NULL, NULL, NULL},                                                         \
    {"_source_traceback", get_source_traceback, NULL, NULL, NULL},                                 \
    {"_repr", get_text, NULL, NULL, NULL}
/* clang-format on */

static PyGetSetDef handle_getset[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    HANDLE_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef threadsafe_handle_getset[] = {
    {"__class__", get_threadsafe_class, NULL, NULL, NULL},
    HANDLE_GETSET,
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef timer_handle_getset[] = {
    {"__class__", get_timer_class, NULL, NULL, NULL},
    HANDLE_GETSET,
    {"_scheduled", get_scheduled, NULL, NULL, NULL},
    {"_when", get_when, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(HandleObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, PyDoc_STR("What call_soon returns. asyncio.Handle.")},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_repr, handle_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {0, NULL},
};

PyType_Spec pyhoop_handle_spec = {
    .name = "hoop._hoop.Handle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_HAVE_GC,
    .slots = handle_slots,
};

static PyType_Slot threadsafe_handle_slots[] = {
    {Py_tp_doc, PyDoc_STR("What call_soon_threadsafe returns from Python 3.14 on: cancel() from "
                          "another thread waits while the callback runs.")},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_repr, handle_repr},
    {Py_tp_methods, threadsafe_handle_methods},
    {Py_tp_getset, threadsafe_handle_getset},
    {Py_tp_members, handle_members},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {0, NULL},
};

PyType_Spec pyhoop_threadsafe_handle_spec = {
    .name = "hoop._hoop.ThreadSafeHandle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_HAVE_GC,
    .slots = threadsafe_handle_slots,
};

static PyType_Slot timer_handle_slots[] = {
    {Py_tp_doc, PyDoc_STR("What call_later and call_at return. asyncio.TimerHandle.")},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_repr, handle_repr},
    {Py_tp_richcompare, timer_richcompare},
    {Py_tp_hash, timer_hash},
    {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, timer_handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

PyType_Spec pyhoop_timer_handle_spec = {
    .name = "hoop._hoop.TimerHandle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_HAVE_GC,
    .slots = timer_handle_slots,
};
