/* SPDX-License-Identifier: MIT */
#include "py/loop.h"

#include <stddef.h>

#include "py/datagram.h"
#include "py/fork.h"
#include "py/listener.h"
#include "py/pipe.h"
#include "py/readers.h"
#include "py/resolve.h"
#include "py/transport.h"

/* ---- helpers the other files use ---- */

PyObject *pyhoop_raise_errno(int rc) {
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

int pyhoop_loop_raise_not_open(LoopObject *self) {
    PyErr_SetString(PyExc_RuntimeError,
                    self->is_closed ? "Event loop is closed"
                                    : "Event loop belongs to the parent process: a forked child "
                                      "has to make its own");
    return -1;
}

PyObject *pyhoop_one_argument(const char *function, const char *name, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames) {
    if (nargs == 1 && kwnames == NULL)
        return args[0];
    if (nargs == 0 && kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), name) == 0)
        return args[0];
    PyErr_Format(PyExc_TypeError, "%s() takes one argument: '%s'", function, name);
    return NULL;
}

/* glibc maps each block over 128 KiB anew and gives it back when it is freed, page
 * faults included, until a mapped block was freed once: then it keeps blocks of that
 * size. Messages are such blocks. */
static void teach_malloc(void) {
    PyMem_RawFree(PyMem_RawMalloc(2 * PYHOOP_SCRATCH_SIZE));
}

char *pyhoop_loop_scratch(LoopObject *self) {
    if (self->scratch == NULL) {
        teach_malloc();
        self->scratch = PyMem_RawMalloc(PYHOOP_SCRATCH_SIZE);
        if (self->scratch == NULL)
            PyErr_NoMemory();
    }
    return self->scratch;
}

int pyhoop_loop_report(LoopObject *self, const char *message, const char *name1, PyObject *value1,
                       const char *name2, PyObject *value2) {
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *result = NULL;
    PyObject *context = Py_BuildValue("{ss,sO}", "message", message, "exception", exception);
    if (context != NULL && (value1 == NULL || PyDict_SetItemString(context, name1, value1) == 0) &&
        (value2 == NULL || PyDict_SetItemString(context, name2, value2) == 0))
        result = PyObject_CallMethodOneArg((PyObject *)self,
                                           self->state->str_call_exception_handler, context);
    Py_XDECREF(context);
    Py_DECREF(exception);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---- what the core calls ---- */

static LoopObject *loop_of_core(struct hoop_loop *core) {
    return HOOP_CONTAINER_OF(core, LoopObject, core);
}

static void release_gil(struct hoop_loop *core) {
    loop_of_core(core)->released = PyEval_SaveThread();
}

static void take_gil(struct hoop_loop *core) {
    PyEval_RestoreThread(loop_of_core(core)->released);
}

/* loop.time() as a subclass or the instance has it: timers follow that clock. */
static int64_t overridden_now_ns(const struct hoop_clock *clock) {
    LoopObject *self = HOOP_CONTAINER_OF(clock, LoopObject, core.clock);
    PyObject *now = PyObject_CallMethodNoArgs((PyObject *)self, self->state->str_time);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    if (seconds == -1.0 && PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)self);
        return self->machine_clock.now_ns(&self->machine_clock);
    }
    double ns = seconds * 1e9;
    if (!(ns > -9.2e18 && ns < 9.2e18)) /* also NaN */
        return self->machine_clock.now_ns(&self->machine_clock);
    return (int64_t)ns;
}

static void override_time(LoopObject *self) {
    self->overrides_time = true;
    self->core.clock.now_ns = overridden_now_ns;
}

/* ---- making ---- */

static int open_core(LoopObject *self) {
    const struct hoop_loop_hooks hooks = {release_gil, take_gil, &pyhoop_fork_count};
    struct hoop_poller poller;
    hoop_clock_init(&self->machine_clock);
    int rc = hoop_poller_open_epoll(&poller);
    if (rc == 0)
        rc = hoop_loop_open(&self->core, &poller, &self->machine_clock, &hooks);
    if (rc == 0)
        return 0;
    pyhoop_raise_errno(rc);
    return -1;
}

static int class_overrides(PyTypeObject *type, PyTypeObject *base, PyObject *name) {
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    PyObject *ours = found == NULL ? NULL : PyObject_GetAttr((PyObject *)base, name);
    int overrides = ours == NULL ? -1 : found != ours;
    Py_XDECREF(found);
    Py_XDECREF(ours);
    return overrides;
}

static PyObject *loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args;
    (void)kwargs;
    struct pyhoop_state *state = pyhoop_state_of_type(type);
    if (state == NULL)
        return NULL;
    int overrides = class_overrides(type, state->loop_type, state->str_time);
    if (overrides == 0)
        overrides = class_overrides(type, state->loop_type, state->str_call_at);
    if (overrides < 0)
        return NULL;
    LoopObject *self = (LoopObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = state;
    self->is_closed = true; /* until the core is open */
    self->module = Py_NewRef(PyType_GetModuleByDef(type, &pyhoop_module));
    if (open_core(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->is_closed = false;
    self->accelerates_streams = state->streams_are_stock;
    if (overrides)
        override_time(self);
    return (PyObject *)self;
}

/* ---- closing ---- */

static void stop_watches(LoopObject *self) {
    for (size_t fd = 0; fd < self->core.watches.slot_count; fd++) {
        struct hoop_watch *watch = self->core.watches.slots[fd].watch;
        if (watch != NULL && watch != &self->core.waker_watch)
            watch->type->forget(watch);
    }
}

/* Deferred writes go out, as asyncio would have sent them already; errors have nobody to go to. */
static void flush_before_close(LoopObject *self) {
    while (hoop_loop_flush(&self->core) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
}

static void close_core(LoopObject *self) {
    if (self->is_closed)
        return;
    PyObject *exception = PyErr_GetRaisedException();
    if (!hoop_watches_are_inherited(&self->core.watches))
        flush_before_close(self);
    self->is_closed = true;
    stop_watches(self);
    hoop_loop_close(&self->core);
    PyMem_RawFree(self->scratch);
    self->scratch = NULL;
    Py_CLEAR(self->loop_keyword);
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
}

/* ---- attributes asyncio's own code reads and writes ---- */

static PyObject *get_debug_flag(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->is_debug);
}

static int set_debug_flag(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int is_true = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_true < 0)
        return -1;
    ((LoopObject *)op)->is_debug = is_true;
    return 0;
}

static PyObject *get_closed(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->is_closed);
}

/* BaseEventLoop.close sets it under every way of closing. */
static int set_closed(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int is_true = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_true < 0)
        return -1;
    if (is_true)
        close_core((LoopObject *)op);
    return 0;
}

static PyObject *get_stopping(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->core.is_stopping);
}

static int set_stopping(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int is_true = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_true < 0)
        return -1;
    ((LoopObject *)op)->core.is_stopping = is_true;
    return 0;
}

static PyObject *get_poll_every_round(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->core.poll_every_round);
}

static int set_poll_every_round(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int is_true = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_true < 0)
        return -1;
    ((LoopObject *)op)->core.poll_every_round = is_true;
    return 0;
}

static PyObject *get_accelerates_streams(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->accelerates_streams);
}

static int set_accelerates_streams(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int is_true = value == NULL ? 0 : PyObject_IsTrue(value);
    if (is_true < 0)
        return -1;
    LoopObject *self = (LoopObject *)op;
    self->accelerates_streams = is_true && self->state->streams_are_stock;
    return 0;
}

static PyObject *get_thread_id(PyObject *op, void *unused) {
    (void)unused;
    unsigned long thread_id = ((LoopObject *)op)->thread_id;
    if (thread_id == 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(thread_id);
}

static int set_thread_id(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    unsigned long thread_id = 0;
    if (value != NULL && value != Py_None) {
        thread_id = PyLong_AsUnsignedLong(value);
        if (PyErr_Occurred())
            return -1;
    }
    ((LoopObject *)op)->thread_id = thread_id;
    return 0;
}

static int append_handle(PyObject *list, struct hoop_item *item) {
    if (!pyhoop_item_is_handle(item))
        return 0;
    return PyList_Append(list, (PyObject *)pyhoop_handle_of_item(item));
}

static PyObject *get_ready(PyObject *op, void *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    PyObject *list = PyList_New(0);
    size_t count = self->is_closed || list == NULL ? 0 : hoop_ring_count(&self->core.ready);
    for (size_t i = 0; i < count; i++) {
        if (append_handle(list, hoop_ring_peek(&self->core.ready, i)) < 0) {
            Py_CLEAR(list);
            break;
        }
    }
    return list;
}

static PyObject *get_scheduled(PyObject *op, void *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    PyObject *list = PyList_New(0);
    size_t count = self->is_closed || list == NULL ? 0 : self->core.timers.count;
    for (size_t i = 0; i < count; i++) {
        if (append_handle(list, &self->core.timers.entries[i].timer->item) < 0) {
            Py_CLEAR(list);
            break;
        }
    }
    return list;
}

/* BaseEventLoop.__init__ assigns its own queues; ours stay. */
static int ignore_assignment(PyObject *op, PyObject *value, void *unused) {
    (void)op;
    (void)value;
    (void)unused;
    return 0;
}

static PyObject *get_task_factory(PyObject *op, void *unused) {
    (void)unused;
    PyObject *factory = ((LoopObject *)op)->task_factory;
    return Py_NewRef(factory != NULL ? factory : Py_None);
}

static int set_task_factory(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    Py_XSETREF(((LoopObject *)op)->task_factory, Py_XNewRef(value));
    return 0;
}

static int loop_setattro(PyObject *op, PyObject *name, PyObject *value) {
    LoopObject *self = (LoopObject *)op;
    int rc = PyObject_GenericSetAttr(op, name, value);
    if (rc == 0 && (name == self->state->str_time || name == self->state->str_call_at))
        override_time(self);
    return rc;
}

/* ---- methods ---- */

static PyObject *loop_time(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    return PyFloat_FromDouble((double)self->machine_clock.now_ns(&self->machine_clock) / 1e9);
}

static PyObject *loop_get_debug(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->is_debug);
}

static PyObject *loop_is_running(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->thread_id != 0);
}

static PyObject *loop_is_closed(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((LoopObject *)op)->is_closed);
}

static PyObject *loop_stop(PyObject *op, PyObject *unused) {
    (void)unused;
    ((LoopObject *)op)->core.is_stopping = true;
    Py_RETURN_NONE;
}

static PyObject *loop_check_closed(PyObject *op, PyObject *unused) {
    (void)unused;
    if (pyhoop_loop_check_open((LoopObject *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *loop_write_to_self(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    if (!self->is_closed)
        hoop_waker_wake_anythread(&self->core.waker);
    Py_RETURN_NONE;
}

static PyObject *loop_timer_handle_cancelled(PyObject *op, PyObject *handle) {
    (void)op;
    (void)handle;
    Py_RETURN_NONE;
}

static PyObject *loop_polled_descriptors(PyObject *op, PyObject *unused) {
    (void)unused;
    LoopObject *self = (LoopObject *)op;
    PyObject *list = PyList_New(0);
    size_t count = self->is_closed ? 0 : self->core.watches.slot_count;
    for (size_t fd = 0; list != NULL && fd < count; fd++) {
        struct hoop_watch *watch = self->core.watches.slots[fd].watch;
        if (watch == NULL || watch->wanted == 0 || watch == &self->core.waker_watch)
            continue;
        PyObject *number = PyLong_FromSize_t(fd);
        if (number == NULL || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    return list;
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS
#define VARARGS(function) (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef loop_methods[] = {
    {"call_soon", FASTCALL(pyhoop_loop_call_soon),
     PyDoc_STR("call_soon($self, callback, *args, context=None)\n--\n\nRun callback in the next "
               "iteration. asyncio.loop.call_soon.")},
    {"call_soon_threadsafe", FASTCALL(pyhoop_loop_call_soon_threadsafe),
     PyDoc_STR("call_soon_threadsafe($self, callback, *args, context=None)\n--\n\ncall_soon() from "
               "any thread. asyncio.loop.call_soon_threadsafe.")},
    {"call_later", FASTCALL(pyhoop_loop_call_later),
     PyDoc_STR("call_later($self, delay, callback, *args, context=None)\n--\n\nRun callback after "
               "delay seconds, never sooner. asyncio.loop.call_later.")},
    {"call_at", FASTCALL(pyhoop_loop_call_at),
     PyDoc_STR("call_at($self, when, callback, *args, context=None)\n--\n\nRun callback when "
               "time() has reached when, in seconds. asyncio.loop.call_at.")},
    {"time", loop_time, METH_NOARGS,
     PyDoc_STR("time($self)\n--\n\nSeconds of the monotonic clock, as time.monotonic(). "
               "asyncio.loop.time.")},
    {"create_future", pyhoop_loop_create_future, METH_NOARGS,
     PyDoc_STR("create_future($self)\n--\n\nA new asyncio.Future of this loop. "
               "asyncio.loop.create_future.")},
    {"create_task", FASTCALL(pyhoop_loop_create_task),
     PyDoc_STR(PYHOOP_CREATE_TASK_SIGNATURE
               "\n--\n\nSchedule a coroutine; the task, by the task factory if one is set.\n"
               "asyncio.loop.create_task.")},
    {"run_forever", pyhoop_loop_run_forever, METH_NOARGS,
     PyDoc_STR("run_forever($self)\n--\n\nRun until stop() is called. asyncio.loop.run_forever.")},
    {"run_until_complete", FASTCALL(pyhoop_loop_run_until_complete),
     PyDoc_STR("run_until_complete($self, future)\n--\n\nRun until the future is done and return "
               "its result.\nasyncio.loop.run_until_complete.")},
    {"stop", loop_stop, METH_NOARGS,
     PyDoc_STR("stop($self)\n--\n\nLeave run_forever after this iteration. asyncio.loop.stop.")},
    {"get_debug", loop_get_debug, METH_NOARGS,
     PyDoc_STR("get_debug($self)\n--\n\nWhether debug mode is on.")},
    {"is_running", loop_is_running, METH_NOARGS,
     PyDoc_STR("is_running($self)\n--\n\nWhether the loop is running.")},
    {"is_closed", loop_is_closed, METH_NOARGS,
     PyDoc_STR("is_closed($self)\n--\n\nWhether the loop is closed.")},
    {"add_reader", FASTCALL(pyhoop_loop_add_reader),
     PyDoc_STR("add_reader($self, fd, callback, *args)\n--\n\nCall back whenever fd, an int or an "
               "object with fileno(), is readable.\nasyncio.loop.add_reader.")},
    {"add_writer", FASTCALL(pyhoop_loop_add_writer),
     PyDoc_STR("add_writer($self, fd, callback, *args)\n--\n\nCall back whenever fd is writable. "
               "asyncio.loop.add_writer.")},
    {"remove_reader", FASTCALL(pyhoop_loop_remove_reader),
     PyDoc_STR("remove_reader($self, fd)\n--\n\nUndo add_reader(); whether there was one. "
               "asyncio.loop.remove_reader.")},
    {"remove_writer", FASTCALL(pyhoop_loop_remove_writer),
     PyDoc_STR("remove_writer($self, fd)\n--\n\nUndo add_writer(); whether there was one. "
               "asyncio.loop.remove_writer.")},
    {"_add_reader", FASTCALL(pyhoop_loop_add_reader_private),
     PyDoc_STR("_add_reader($self, fd, callback, *args, context=None)\n--\n\n")},
    {"_add_writer", FASTCALL(pyhoop_loop_add_writer_private),
     PyDoc_STR("_add_writer($self, fd, callback, *args, context=None)\n--\n\n")},
    {"_remove_reader", pyhoop_loop_remove_reader_private, METH_O,
     PyDoc_STR("_remove_reader($self, fd, /)\n--\n\n")},
    {"_remove_writer", pyhoop_loop_remove_writer_private, METH_O,
     PyDoc_STR("_remove_writer($self, fd, /)\n--\n\n")},
    {"_ensure_fd_no_transport", pyhoop_loop_ensure_fd_no_transport, METH_O,
     PyDoc_STR("_ensure_fd_no_transport($self, fd, /)\n--\n\n")},
    {"_polled_events", pyhoop_loop_polled_events, METH_O,
     PyDoc_STR("_polled_events($self, fd, /)\n--\n\nWhat is waited for on a descriptor: 1 reading, "
               "2 writing, or both.")},
    {"_polled_descriptors", loop_polled_descriptors, METH_NOARGS,
     PyDoc_STR(
         "_polled_descriptors($self)\n--\n\nThe descriptors that something is waited for on.")},
    {"_add_callback", pyhoop_loop_add_callback, METH_O,
     PyDoc_STR("_add_callback($self, handle, /)\n--\n\n")},
    {"_add_callback_signalsafe", pyhoop_loop_add_callback_signalsafe, METH_O,
     PyDoc_STR("_add_callback_signalsafe($self, handle, /)\n--\n\n")},
    {"_check_closed", loop_check_closed, METH_NOARGS, PyDoc_STR("_check_closed($self)\n--\n\n")},
    {"_make_datagram_transport", VARARGS(pyhoop_loop_make_datagram_transport),
     PyDoc_STR("_make_datagram_transport($self, sock, protocol, address=None, waiter=None, "
               "extra=None)\n--\n\n")},
    {"_make_socket_transport", VARARGS(pyhoop_loop_make_socket_transport),
     PyDoc_STR("_make_socket_transport($self, sock, protocol, waiter=None, *, extra=None, "
               "server=None, context=None)\n--\n\n")},
    {"_numeric_addrinfo", (PyCFunction)(void (*)(void))pyhoop_loop_numeric_addrinfo, METH_FASTCALL,
     PyDoc_STR("_numeric_addrinfo($self, host, port, family, type, proto, flags, /)\n--\n\n"
               "What socket.getaddrinfo() returns, or None if it may have to ask somebody.")},
    {"_make_pipe_transport", VARARGS(pyhoop_loop_make_pipe_transport),
     PyDoc_STR("_make_pipe_transport($self, pipe, fd, is_reader, access, protocol, waiter, extra, "
               "hears_end=True)\n--\n\n")},
    {"_run_forever_setup", pyhoop_loop_run_forever_setup, METH_NOARGS,
     PyDoc_STR("_run_forever_setup($self)\n--\n\n")},
    {"_run_forever_cleanup", pyhoop_loop_run_forever_cleanup, METH_NOARGS,
     PyDoc_STR("_run_forever_cleanup($self)\n--\n\n")},
    {"_run_once", pyhoop_loop_run_once, METH_NOARGS,
     PyDoc_STR("_run_once($self)\n--\n\nOne iteration, for tools that nest loops.")},
    {"_start_serving", VARARGS(pyhoop_loop_start_serving),
     PyDoc_STR(
         "_start_serving($self, protocol_factory, sock, sslcontext=None, server=None, backlog=100, "
         "ssl_handshake_timeout=None, ssl_shutdown_timeout=None, context=None)\n--\n\n")},
    {"_timer_handle_cancelled", loop_timer_handle_cancelled, METH_O,
     PyDoc_STR("_timer_handle_cancelled($self, handle, /)\n--\n\n")},
    {"_write_to_self", loop_write_to_self, METH_NOARGS, PyDoc_STR("_write_to_self($self)\n--\n\n")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef loop_getset[] = {
    {"_accelerates_streams", get_accelerates_streams, set_accelerates_streams, NULL, NULL},
    {"_closed", get_closed, set_closed, NULL, NULL},
    {"_debug", get_debug_flag, set_debug_flag, NULL, NULL},
    {"_poll_every_round", get_poll_every_round, set_poll_every_round, NULL, NULL},
    {"_ready", get_ready, ignore_assignment, NULL, NULL},
    {"_scheduled", get_scheduled, ignore_assignment, NULL, NULL},
    {"_stopping", get_stopping, set_stopping, NULL, NULL},
    {"_task_factory", get_task_factory, set_task_factory, NULL, NULL},
    {"_thread_id", get_thread_id, set_thread_id, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- memory ---- */

static int visit_item(struct hoop_item *item, visitproc visit, void *arg) {
    return ((const struct pyhoop_item_type *)(const void *)item->type)->traverse(item, visit, arg);
}

static int visit_queues(LoopObject *self, visitproc visit, void *arg) {
    int rc = 0;
    size_t count = hoop_ring_count(&self->core.ready);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = visit_item(hoop_ring_peek(&self->core.ready, i), visit, arg);
    for (size_t i = 0; rc == 0 && i < self->core.timers.count; i++)
        rc = visit_item(&self->core.timers.entries[i].timer->item, visit, arg);
    struct hoop_item *item = hoop_inbox_peek(&self->core.inbox);
    for (; rc == 0 && item != NULL; item = item->next)
        rc = visit_item(item, visit, arg);
    return rc;
}

/* The loop's references to those who want events. */
static int visit_watches(LoopObject *self, visitproc visit, void *arg) {
    struct hoop_watches *watches = &self->core.watches;
    int rc = 0;
    for (size_t fd = 0; rc == 0 && fd < watches->slot_count; fd++) {
        struct hoop_watch *watch = watches->slots[fd].watch;
        if (watch != NULL && watch != &self->core.waker_watch)
            rc = ((const struct pyhoop_watch_type *)(const void *)watch->type)
                     ->traverse(watch, visit, arg);
    }
    return rc;
}

static int loop_traverse(PyObject *op, visitproc visit, void *arg) {
    LoopObject *self = (LoopObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->task_factory);
    Py_VISIT(self->loop_keyword);
    Py_VISIT(self->module);
    if (self->is_closed)
        return 0;
    int rc = visit_queues(self, visit, arg);
    return rc != 0 ? rc : visit_watches(self, visit, arg);
}

static int loop_clear(PyObject *op) {
    LoopObject *self = (LoopObject *)op;
    close_core(self);
    Py_CLEAR(self->task_factory);
    Py_CLEAR(self->loop_keyword);
    return 0;
}

static void loop_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)loop_clear(op);
    PyMem_RawFree(((LoopObject *)op)->scratch); /* of who asked for it after the loop was closed */
    PyObject *module = ((LoopObject *)op)->module;
    type->tp_free(op);
    Py_DECREF(type);
    Py_XDECREF(module);
}

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, PyDoc_STR("The C base of hoop.Loop.")},
    {Py_tp_new, loop_new},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_setattro, loop_setattro},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},
    {0, NULL},
};

PyType_Spec pyhoop_loop_spec = {
    .name = "hoop._hoop.Loop",
    .basicsize = sizeof(LoopObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = loop_slots,
};
