/* SPDX-License-Identifier: MIT
 *
 * loop_schedule: what puts work on the loop: call_soon and its kin, futures, tasks.
 */
#include <math.h>
#include <stdbool.h>

#include "py/loop.h"

/* ---- arguments ---- */

struct call_arguments {
    PyObject *when; /* delay or time, for those who take one */
    PyObject *callback;
    PyObject *const *args;
    Py_ssize_t arg_count;
    PyObject *context; /* borrowed; NULL: copy the current one */
};

static bool is_name(PyObject *keyword, PyObject *name) {
    return keyword == name || PyUnicode_Compare(keyword, name) == 0;
}

/* Takes the keyword arguments; positional ones are set already. */
static int parse_keywords(struct pyhoop_state *state, struct call_arguments *call,
                          const char *function, PyObject *when_name, PyObject *const *values,
                          PyObject *kwnames) {
    Py_ssize_t count = PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        if (is_name(keyword, state->str_context)) {
            call->context = values[i] == Py_None ? NULL : values[i];
        } else if (call->callback == NULL && is_name(keyword, state->str_callback)) {
            call->callback = values[i];
        } else if (when_name != NULL && call->when == NULL && is_name(keyword, when_name)) {
            call->when = values[i];
        } else {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function,
                         keyword);
            return -1;
        }
    }
    return 0;
}

/* (callback, *args, context=None), or with `when_name` (when, callback, *args, context=None). */
static int parse_call(struct pyhoop_state *state, struct call_arguments *call, const char *function,
                      PyObject *when_name, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames) {
    Py_ssize_t leading = when_name != NULL ? 2 : 1;
    *call = (struct call_arguments){0};
    if (when_name != NULL && nargs > 0)
        call->when = args[0];
    if (nargs >= leading) {
        call->callback = args[leading - 1];
        call->args = args + leading;
        call->arg_count = nargs - leading;
    }
    if (kwnames != NULL &&
        parse_keywords(state, call, function, when_name, args + nargs, kwnames) < 0)
        return -1;
    if (call->callback == NULL || (when_name != NULL && call->when == NULL)) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%U'", function,
                     when_name != NULL && call->when == NULL ? when_name : state->str_callback);
        return -1;
    }
    return 0;
}

/* Whether the one keyword is `context`. _asyncio passes the same tuple at each
 * call, with a string that is not interned: the tuple is remembered. */
static bool is_only_context(struct pyhoop_state *state, PyObject *kwnames) {
    if (kwnames == state->seen_kwnames)
        return true;
    if (PyTuple_GET_SIZE(kwnames) != 1)
        return false;
    PyObject *keyword = PyTuple_GET_ITEM(kwnames, 0);
    if (keyword == state->str_context)
        return true;
    if (PyUnicode_Compare(keyword, state->str_context) != 0)
        return false;
    Py_XSETREF(state->seen_kwnames, Py_NewRef(kwnames));
    return true;
}

/* The common case of asyncio's own calls: (callback, *args, context=context). */
static inline int parse_call_soon(struct pyhoop_state *state, struct call_arguments *call,
                                  const char *function, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    if (nargs > 0 && (kwnames == NULL || is_only_context(state, kwnames))) {
        call->callback = args[0];
        call->args = args + 1;
        call->arg_count = nargs - 1;
        call->context = kwnames == NULL || args[nargs] == Py_None ? NULL : args[nargs];
        return 0;
    }
    return parse_call(state, call, function, NULL, args, nargs, kwnames);
}

static int check_context(PyObject *context) {
    if (context == NULL || PyContext_CheckExact(context))
        return 0;
    PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context or None, not %.200s",
                 Py_TYPE(context)->tp_name);
    return -1;
}

/* asyncio's debug-mode checks: the thread, and that the callback is one. */
static int check_debug(LoopObject *self, PyObject *callback, const char *function,
                       bool checks_thread) {
    PyObject *result;
    if (checks_thread) {
        result = PyObject_CallMethodNoArgs((PyObject *)self, self->state->str__check_thread);
        if (result == NULL)
            return -1;
        Py_DECREF(result);
    }
    result = PyObject_CallMethod((PyObject *)self, "_check_callback", "Os", callback, function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int check_call(LoopObject *self, const struct call_arguments *call, const char *function,
                      bool checks_thread) {
    if (pyhoop_loop_check_open(self) < 0 || check_context(call->context) < 0)
        return -1;
    return self->is_debug ? check_debug(self, call->callback, function, checks_thread) : 0;
}

static HandleObject *new_handle(LoopObject *self, PyTypeObject *type,
                                const struct call_arguments *call) {
    return pyhoop_handle_new(type, self, call->callback, call->args, call->arg_count,
                             call->context);
}

/* Gives the loop its reference. Making the handle may have run the collector, and
 * that a finalizer which closed the loop. */
static PyObject *queue(LoopObject *self, HandleObject *handle) {
    if (pyhoop_loop_check_open(self) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    Py_INCREF(handle);
    if (hoop_loop_give(&self->core, &handle->timer.item) < 0) {
        Py_DECREF(handle);
        Py_DECREF(handle);
        return PyErr_NoMemory();
    }
    return (PyObject *)handle;
}

/* ---- call_soon ---- */

PyObject *pyhoop_loop_call_soon(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    struct call_arguments call;
    if (parse_call_soon(self->state, &call, "call_soon", args, nargs, kwnames) < 0 ||
        check_call(self, &call, "call_soon", true) < 0)
        return NULL;
    HandleObject *handle = new_handle(self, self->state->handle_type, &call);
    return handle == NULL ? NULL : queue(self, handle);
}

static PyObject *push(LoopObject *self, HandleObject *handle) {
    Py_INCREF(handle);
    if (hoop_loop_push_anythread(&self->core, &handle->timer.item) < 0) {
        Py_DECREF(handle);
        Py_DECREF(handle);
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return NULL;
    }
    return (PyObject *)handle;
}

PyObject *pyhoop_loop_call_soon_threadsafe(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    struct call_arguments call;
    if (parse_call_soon(self->state, &call, "call_soon_threadsafe", args, nargs, kwnames) < 0 ||
        check_call(self, &call, "call_soon_threadsafe", false) < 0)
        return NULL;
    HandleObject *handle = new_handle(self, self->state->threadsafe_handle_type, &call);
    return handle == NULL ? NULL : push(self, handle);
}

/* ---- timers ---- */

/* The first nanosecond at which loop.time() >= `when`; times out of range are clamped. */
static int64_t deadline_of(double when) {
    double ns = ceil(when * 1e9);
    if (ns >= 9.2e18)
        return INT64_MAX;
    return ns <= -9.2e18 ? INT64_MIN : (int64_t)ns;
}

static PyObject *arm(LoopObject *self, const struct call_arguments *call, PyObject *when,
                     double when_seconds) {
    if (isnan(when_seconds)) {
        PyErr_SetString(PyExc_ValueError, "Invalid delay: NaN (not a number)");
        return NULL;
    }
    HandleObject *handle = new_handle(self, self->state->timer_handle_type, call);
    if (handle == NULL)
        return NULL;
    if (pyhoop_loop_check_open(self) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    handle->when = Py_NewRef(when);
    Py_INCREF(handle);
    if (hoop_timers_arm(&self->core.timers, &handle->timer, deadline_of(when_seconds)) < 0) {
        Py_DECREF(handle);
        Py_DECREF(handle);
        return PyErr_NoMemory();
    }
    return (PyObject *)handle;
}

static int check_timed(LoopObject *self, const struct call_arguments *call, const char *function,
                       const char *none_message) {
    if (call->when == Py_None) {
        PyErr_SetString(PyExc_TypeError, none_message);
        return -1;
    }
    return check_call(self, call, function, true);
}

PyObject *pyhoop_loop_call_at(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    struct call_arguments call;
    if (parse_call(self->state, &call, "call_at", self->state->str_when, args, nargs, kwnames) <
            0 ||
        check_timed(self, &call, "call_at", "when cannot be None") < 0)
        return NULL;
    double when = PyFloat_AsDouble(call.when);
    if (when == -1.0 && PyErr_Occurred())
        return NULL;
    return arm(self, &call, call.when, when);
}

/* call_later by way of self.time() and self.call_at(), which someone replaced. */
static PyObject *call_later_overridden(LoopObject *self, PyObject *delay, PyObject *const *args,
                                       Py_ssize_t arg_count, PyObject *context) {
    PyObject *now = PyObject_CallMethodNoArgs((PyObject *)self, self->state->str_time);
    if (now == NULL)
        return NULL;
    PyObject *when = PyNumber_Add(now, delay);
    Py_DECREF(now);
    if (when == NULL)
        return NULL;
    PyObject *result = NULL;
    PyObject **stack = PyMem_New(PyObject *, (size_t)arg_count + 3);
    if (stack == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    stack[0] = (PyObject *)self;
    stack[1] = when;
    for (Py_ssize_t i = 0; i < arg_count; i++)
        stack[2 + i] = args[i];
    stack[2 + arg_count] = context != NULL ? context : Py_None;
    result = PyObject_VectorcallMethod(self->state->str_call_at, stack, (size_t)arg_count + 2,
                                       self->state->kwnames_context);
    PyMem_Free(stack);
done:
    Py_DECREF(when);
    return result;
}

PyObject *pyhoop_loop_call_later(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    struct call_arguments call;
    if (parse_call(self->state, &call, "call_later", self->state->str_delay, args, nargs, kwnames) <
        0)
        return NULL;
    if (self->overrides_time && call.when != Py_None && nargs >= 2)
        return call_later_overridden(self, call.when, args + 1, nargs - 1, call.context);
    /* asyncio's call_later ends in its call_at, which complains in its own name. */
    if (check_timed(self, &call, "call_at", "delay must not be None") < 0)
        return NULL;
    double delay = PyFloat_AsDouble(call.when);
    if (delay == -1.0 && PyErr_Occurred())
        return NULL;
    double when_seconds = (double)hoop_loop_now_ns(&self->core) / 1e9 + delay;
    PyObject *when = PyFloat_FromDouble(when_seconds);
    if (when == NULL)
        return NULL;
    PyObject *handle = arm(self, &call, when, when_seconds);
    Py_DECREF(when);
    return handle;
}

/* ---- handles made by others: asyncio's own, and tools' ---- */

/* A handle of ours that calls `handle._run()`, which enters its own context. */
static HandleObject *wrap(LoopObject *self, PyObject *handle) {
    HandleObject *wrapper = pyhoop_handle_new(self->state->handle_type, self,
                                              self->state->cold_run_foreign, &handle, 1, NULL);
    if (wrapper != NULL)
        Py_CLEAR(wrapper->context);
    return wrapper;
}

static bool is_ours(struct pyhoop_state *state, PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    return type == state->handle_type || type == state->timer_handle_type ||
           type == state->threadsafe_handle_type;
}

PyObject *pyhoop_loop_add_callback(PyObject *op, PyObject *object) {
    LoopObject *self = (LoopObject *)op;
    if (pyhoop_loop_check_open(self) < 0)
        return NULL;
    HandleObject *handle =
        is_ours(self->state, object) ? (HandleObject *)Py_NewRef(object) : wrap(self, object);
    PyObject *queued = handle == NULL ? NULL : queue(self, handle);
    if (queued == NULL)
        return NULL;
    Py_DECREF(queued);
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_add_callback_signalsafe(PyObject *op, PyObject *object) {
    LoopObject *self = (LoopObject *)op;
    HandleObject *handle = wrap(self, object); /* the inbox links each item once */
    PyObject *pushed = handle == NULL ? NULL : push(self, handle);
    if (pushed == NULL)
        return NULL;
    Py_DECREF(pushed);
    Py_RETURN_NONE;
}

/* ---- futures and tasks ---- */

/* The class a module names now: tests and tools replace asyncio's. New reference. */
static PyObject *named_class(PyObject *module, PyObject *name) {
    PyObject *found;
    int rc = PyDict_GetItemRef(PyModule_GetDict(module), name, &found);
    return rc == 0 ? PyObject_GetAttr(module, name) : found;
}

/* The keyword dictionary, made once, borrowed. */
static PyObject *loop_keyword(LoopObject *self) {
    if (self->loop_keyword == NULL) {
        self->loop_keyword = PyDict_New();
        if (self->loop_keyword != NULL &&
            PyDict_SetItem(self->loop_keyword, self->state->str_loop, (PyObject *)self) < 0)
            Py_CLEAR(self->loop_keyword);
    }
    return self->loop_keyword;
}

/* class_(*args, loop=self) */
static PyObject *make_with_loop(LoopObject *self, PyObject *class_, PyObject *args) {
    PyObject *keywords = Py_XNewRef(loop_keyword(self));
    PyObject *object = keywords == NULL ? NULL : PyObject_Call(class_, args, keywords);
    Py_XDECREF(keywords);
    return object;
}

PyObject *pyhoop_loop_create_future(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    struct pyhoop_state *state = self->state;
    PyObject *future_class = named_class(state->futures_module, state->str_Future);
    if (future_class == NULL)
        return NULL;
    PyObject *future = make_with_loop(self, future_class, state->empty_tuple);
    Py_DECREF(future_class);
    return future;
}

/* BaseEventLoop.create_task: the way that knows task factories. */
static PyObject *create_task_by_factory(LoopObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames) {
    PyObject *method =
        PyObject_GetAttr(self->state->asyncio_base_loop, self->state->str_create_task);
    if (method == NULL)
        return NULL;
    Py_ssize_t keyword_count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *result = NULL;
    PyObject **stack = PyMem_New(PyObject *, (size_t)(1 + nargs + keyword_count));
    if (stack == NULL) {
        PyErr_NoMemory();
    } else {
        stack[0] = (PyObject *)self;
        for (Py_ssize_t i = 0; i < nargs + keyword_count; i++)
            stack[1 + i] = args[i];
        result = PyObject_Vectorcall(method, stack, (size_t)nargs + 1, kwnames);
        PyMem_Free(stack);
    }
    Py_DECREF(method);
    return result;
}

/* Whether the keywords say no more than their absence: name=None, context=None. */
static bool are_defaults(struct pyhoop_state *state, PyObject *const *values, PyObject *kwnames) {
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (values[i] != Py_None || (name != state->str_name && name != state->str_context))
            return false;
    }
    return true;
}

static PyObject *make_task_with(LoopObject *self, PyObject *task_class, PyObject *args,
                                PyObject *const *values, PyObject *kwnames) {
    if (are_defaults(self->state, values, kwnames))
        return make_with_loop(self, task_class, args);
    PyObject *keywords = loop_keyword(self) == NULL ? NULL : PyDict_Copy(self->loop_keyword);
    for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(kwnames, i), values[i]) < 0)
            Py_CLEAR(keywords);
    }
    PyObject *task = keywords == NULL ? NULL : PyObject_Call(task_class, args, keywords);
    Py_XDECREF(keywords);
    return task;
}

/* Task(coro, loop=self, **keywords). */
static PyObject *make_task(LoopObject *self, PyObject *coroutine, PyObject *const *values,
                           PyObject *kwnames) {
    struct pyhoop_state *state = self->state;
    PyObject *task_class = named_class(state->tasks_module, state->str_Task);
    PyObject *args = task_class == NULL ? NULL : PyTuple_Pack(1, coroutine);
    PyObject *task = args == NULL ? NULL : make_task_with(self, task_class, args, values, kwnames);
    Py_XDECREF(args);
    Py_XDECREF(task_class);
    return task;
}

PyObject *pyhoop_loop_create_task(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    /* `coro=` by name, and every misuse, get the inherited method's treatment. */
    if (nargs != 1 || (self->task_factory != NULL && self->task_factory != Py_None))
        return create_task_by_factory(self, args, nargs, kwnames);
    if (pyhoop_loop_check_open(self) < 0)
        return NULL;
    return make_task(self, args[0], args + 1, kwnames);
}
