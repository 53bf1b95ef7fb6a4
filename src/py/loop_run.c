/* SPDX-License-Identifier: MIT
 *
 * loop_run: run_forever and run_until_complete, as asyncio's BaseEventLoop has them.
 */
#include "py/loop.h"

static int check_can_run(LoopObject *self) {
    if (pyhoop_loop_check_open(self) < 0)
        return -1;
    if (self->thread_id != 0) {
        PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
        return -1;
    }
    PyObject *running =
        PyObject_CallMethodNoArgs(self->state->events_module, self->state->str__get_running_loop);
    if (running == NULL)
        return -1;
    Py_DECREF(running);
    if (running != Py_None) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot run the event loop while another loop is running");
        return -1;
    }
    return 0;
}

static int track_coroutine_origins(PyObject *op, struct pyhoop_state *state, bool is_enabled) {
    PyObject *result = PyObject_CallMethodOneArg(op, state->str__set_coroutine_origin_tracking,
                                                 is_enabled ? Py_True : Py_False);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Installs this loop's asynchronous-generator hooks; the old ones go to _old_agen_hooks. */
static int install_asyncgen_hooks(PyObject *op, struct pyhoop_state *state) {
    int rc = -1;
    PyObject *firstiter = NULL, *finalizer = NULL, *result = NULL;
    PyObject *old = PyObject_CallNoArgs(state->get_asyncgen_hooks);
    if (old == NULL || PyObject_SetAttr(op, state->str__old_agen_hooks, old) < 0)
        goto done;
    firstiter = PyObject_GetAttr(op, state->str__asyncgen_firstiter_hook);
    finalizer = PyObject_GetAttr(op, state->str__asyncgen_finalizer_hook);
    if (firstiter == NULL || finalizer == NULL)
        goto done;
    result = PyObject_CallFunctionObjArgs(state->set_asyncgen_hooks, firstiter, finalizer, NULL);
    rc = result == NULL ? -1 : 0;
done:
    Py_XDECREF(old);
    Py_XDECREF(firstiter);
    Py_XDECREF(finalizer);
    Py_XDECREF(result);
    return rc;
}

static int restore_asyncgen_hooks(PyObject *op, struct pyhoop_state *state) {
    PyObject *old = PyObject_GetAttr(op, state->str__old_agen_hooks);
    if (old == NULL)
        return -1;
    int rc = 0;
    if (old != Py_None) {
        PyObject *result = PyObject_Call(state->set_asyncgen_hooks, old, NULL);
        rc = result == NULL ? -1 : PyObject_SetAttr(op, state->str__old_agen_hooks, Py_None);
        Py_XDECREF(result);
    }
    Py_DECREF(old);
    return rc;
}

static int set_running_loop(struct pyhoop_state *state, PyObject *loop) {
    PyObject *result =
        PyObject_CallMethodOneArg(state->events_module, state->str__set_running_loop, loop);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

PyObject *pyhoop_loop_run_forever_setup(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    if (check_can_run(self) < 0)
        return NULL;
    self->thread_id = PyThread_get_thread_ident();
    if ((self->is_debug && track_coroutine_origins(op, self->state, true) < 0) ||
        install_asyncgen_hooks(op, self->state) < 0 || set_running_loop(self->state, op) < 0) {
        self->thread_id = 0;
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_run_forever_cleanup(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    self->core.is_stopping = false;
    self->thread_id = 0;
    if (set_running_loop(self->state, Py_None) < 0 ||
        track_coroutine_origins(op, self->state, false) < 0 ||
        restore_asyncgen_hooks(op, self->state) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* What this round's callbacks wrote is sent, although one of them left the loop. */
static void flush_on_leaving(LoopObject *self) {
    PyObject *exception = PyErr_GetRaisedException();
    if (hoop_loop_flush(&self->core) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    PyErr_SetRaisedException(exception);
}

/* One iteration; -1 with an exception set to leave. */
static int iterate(LoopObject *self) {
    if (pyhoop_loop_check_open(self) < 0)
        return -1;
    uint64_t polls = self->core.stats.polls;
    int rc = hoop_loop_iterate(&self->core);
    /* Between two polls at most microseconds pass, and Python code looks for signals itself. */
    if (rc == 0)
        return polls == self->core.stats.polls ? 0 : PyErr_CheckSignals();
    if (!PyErr_Occurred())
        pyhoop_raise_errno(rc);
    flush_on_leaving(self);
    return -1;
}

static int spin(LoopObject *self) {
    do {
        if (iterate(self) < 0)
            return -1;
    } while (!self->core.is_stopping);
    return 0;
}

/* Runs `method` while an exception may be set; that one goes first, as in `finally`. */
static int call_finally(PyObject *op, PyObject *method, int rc) {
    PyObject *exception = rc < 0 ? PyErr_GetRaisedException() : NULL;
    PyObject *result = PyObject_CallMethodNoArgs(op, method);
    if (result == NULL)
        rc = -1;
    Py_XDECREF(result);
    if (exception != NULL) {
        if (PyErr_Occurred()) {
            PyObject *newer = PyErr_GetRaisedException();
            PyException_SetContext(newer, exception);
            PyErr_SetRaisedException(newer);
        } else {
            PyErr_SetRaisedException(exception);
        }
    }
    return rc;
}

PyObject *pyhoop_loop_run_forever(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    struct pyhoop_state *state = self->state;
    PyObject *ready = PyObject_CallMethodNoArgs(op, state->str__run_forever_setup);
    if (ready == NULL)
        return NULL;
    Py_DECREF(ready);
    int rc = spin(self);
    if (call_finally(op, state->str__run_forever_cleanup, rc) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_run_once(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    if (iterate(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- run_until_complete ---- */

static int is_true_method(PyObject *object, PyObject *name) {
    PyObject *result = PyObject_CallMethodNoArgs(object, name);
    if (result == NULL)
        return -1;
    int is_true = PyObject_IsTrue(result);
    Py_DECREF(result);
    return is_true;
}

static PyObject *call_module(PyObject *module, PyObject *name, PyObject *argument, PyObject *loop,
                             PyObject *kwnames) {
    PyObject *function = PyObject_GetAttr(module, name);
    if (function == NULL)
        return NULL;
    PyObject *args[] = {argument, loop};
    PyObject *result = PyObject_Vectorcall(function, args, 1, kwnames);
    Py_DECREF(function);
    return result;
}

/* The future to wait for, new reference; `is_new` if a task was made for it. */
static PyObject *ensure_future(PyObject *op, PyObject *awaitable, int *is_new) {
    struct pyhoop_state *state = ((LoopObject *)op)->state;
    if (PyCoro_CheckExact(awaitable)) {
        *is_new = 1;
        return PyObject_CallMethodOneArg(op, state->str_create_task, awaitable);
    }
    PyObject *is_future =
        call_module(state->futures_module, state->str_isfuture, awaitable, NULL, NULL);
    if (is_future == NULL)
        return NULL;
    *is_new = is_future != Py_True;
    Py_DECREF(is_future);
    return call_module(state->tasks_module, state->str_ensure_future, awaitable, op,
                       state->kwnames_loop);
}

/* The loop was left by an exception: a task that carries it too must not warn
 * that nobody retrieved it. */
static int retrieve_exception(struct pyhoop_state *state, PyObject *future) {
    int done = is_true_method(future, state->str_done);
    if (done <= 0)
        return done;
    int cancelled = is_true_method(future, state->str_cancelled);
    if (cancelled != 0)
        return cancelled < 0 ? -1 : 0;
    PyObject *exception = PyObject_CallMethodNoArgs(future, state->str_exception);
    Py_XDECREF(exception);
    return exception == NULL ? -1 : 0;
}

static PyObject *result_of(struct pyhoop_state *state, PyObject *future) {
    int done = is_true_method(future, state->str_done);
    if (done < 0)
        return NULL;
    if (!done) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop stopped before Future completed.");
        return NULL;
    }
    return PyObject_CallMethodNoArgs(future, state->str_result);
}

/* run_forever with the future's callback in place, and what `except` and `finally` do in asyncio.
 */
static int run_with_callback(PyObject *op, PyObject *future, int is_new) {
    struct pyhoop_state *state = ((LoopObject *)op)->state;
    PyObject *stop = state->asyncio_run_until_complete_cb;
    PyObject *result = PyObject_CallMethodOneArg(future, state->str_add_done_callback, stop);
    if (result == NULL)
        return -1;
    Py_DECREF(result);

    result = PyObject_CallMethodNoArgs(op, state->str_run_forever);
    int rc = result == NULL ? -1 : 0;
    Py_XDECREF(result);

    PyObject *exception = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (rc < 0 && is_new && retrieve_exception(state, future) < 0)
        PyErr_WriteUnraisable(future);
    result = PyObject_CallMethodOneArg(future, state->str_remove_done_callback, stop);
    if (result == NULL)
        PyErr_WriteUnraisable(future);
    Py_XDECREF(result);
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
    return rc;
}

PyObject *pyhoop_loop_run_until_complete(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    LoopObject *self = (LoopObject *)op;
    struct pyhoop_state *state = self->state;
    int is_new = 0;
    PyObject *awaitable = pyhoop_one_argument("run_until_complete", "future", args, nargs, kwnames);
    if (awaitable == NULL || check_can_run(self) < 0)
        return NULL;
    PyObject *future = ensure_future(op, awaitable, &is_new);
    if (future == NULL)
        return NULL;
    PyObject *result = NULL;
    if (is_new && PyObject_SetAttr(future, state->str__log_destroy_pending, Py_False) < 0)
        goto done;
    if (run_with_callback(op, future, is_new) == 0)
        result = result_of(state, future);
done:
    Py_DECREF(future);
    return result;
}
