/* SPDX-License-Identifier: MIT */
#include "py/operation.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"

PyObject *pyhoop_operation_new(const struct pyhoop_operation_kind *kind, LoopObject *loop,
                               PyObject *inherited, PyObject *const *args, Py_ssize_t arg_count) {
    OperationObject *self = PyObject_GC_New(OperationObject, loop->state->operation_type);
    if (self == NULL)
        return NULL;
    self->kind = kind;
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    self->inherited = Py_NewRef(inherited);
    for (int i = 0; i < (int)arg_count; i++)
        self->args[i] = Py_NewRef(args[i]);
    self->arg_count = (int)arg_count;
    self->state = PYHOOP_AWAIT_NEW;
    self->waiter.next = NULL;
    self->waiter.owner = (PyObject *)self;
    self->future = NULL;
    self->inner = NULL;
    self->done = 0;
    self->buffer.obj = NULL;
    self->file.is_open = false;
    self->weakrefs = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

enum pyhoop_outcome pyhoop_operation_refused(ssize_t rc) {
    if (rc == -EAGAIN)
        return PYHOOP_WAIT;
    pyhoop_raise_errno((int)rc);
    return PYHOOP_FAILED;
}

/* ---- the end ---- */

static void release_buffer(OperationObject *self) {
    if (self->kind != &pyhoop_sock_sendall || self->buffer.obj == NULL)
        return;
    Py_buffer buffer = self->buffer;
    self->buffer.obj = NULL;
    PyBuffer_Release(&buffer);
}

static void clear_fields(OperationObject *self) {
    PyObject *args[PYHOOP_OPERATION_ARGS];
    int count = self->arg_count;
    memcpy(args, self->args, sizeof(args));
    self->arg_count = 0;
    release_buffer(self);
    Py_CLEAR(self->future);
    Py_CLEAR(self->inner);
    for (int i = 0; i < count; i++)
        Py_DECREF(args[i]);
}

/* The exception that is set stays, unless ending raises another. */
static void finish(OperationObject *self) {
    PyObject *exception = PyErr_GetRaisedException();
    pyhoop_waiter_leave(&self->waiter);
    int rc = self->kind->end == NULL ? 0 : self->kind->end(self);
    self->state = PYHOOP_AWAIT_FINISHED;
    PyObject *later = rc < 0 ? PyErr_GetRaisedException() : NULL;
    clear_fields(self);
    if (later != NULL) {
        if (exception != NULL)
            PyException_SetContext(later, exception);
        PyErr_SetRaisedException(later);
    } else if (exception != NULL) {
        PyErr_SetRaisedException(exception);
    }
}

/* ---- steps ---- */

/* Python's own sockets can be driven by the descriptor; subclasses may override anything. */
static bool is_ours(const OperationObject *self) {
    const LoopObject *loop = self->loop;
    return Py_IS_TYPE(self->args[0], (PyTypeObject *)loop->state->socket_class) &&
           !loop->is_closed && !hoop_watches_are_inherited(&loop->core.watches);
}

/* Whether socket.gettimeout() is 0, or, with `or_never`, None. */
static int is_nonblocking(OperationObject *self, bool or_never) {
    PyObject *timeout = PyObject_CallMethodNoArgs(self->args[0], self->loop->state->str_gettimeout);
    if (timeout == NULL)
        return -1;
    bool is = timeout == Py_None ? or_never : PyFloat_AsDouble(timeout) == 0.0;
    Py_DECREF(timeout);
    return is;
}

static int descriptor_of(OperationObject *self, int *fd) {
    PyObject *number = PyObject_CallMethodNoArgs(self->args[0], self->loop->state->str_fileno);
    if (number == NULL)
        return -1;
    *fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}

static int check_no_transport(OperationObject *self, int fd) {
    PyObject *number = PyLong_FromLong(fd);
    int rc = number == NULL ? -1 : pyhoop_reader_check_no_transport(self->loop, number, fd);
    Py_XDECREF(number);
    return rc;
}

static enum pyhoop_outcome attempt_first(OperationObject *self, int fd, PyObject **result) {
    if (!is_ours(self))
        return PYHOOP_INHERITED;
    if (self->kind->could_block) {
        int rc = is_nonblocking(self, false);
        if (rc <= 0)
            return rc < 0 ? PYHOOP_FAILED : PYHOOP_INHERITED;
    }
    enum pyhoop_outcome outcome = self->kind->attempt(self, fd, result);
    if (outcome != PYHOOP_WAIT || self->done > 0)
        return outcome;
    /* With a timeout, asyncio's blocks and may raise TimeoutError. */
    int rc = is_nonblocking(self, true);
    return rc > 0 ? PYHOOP_WAIT : rc < 0 ? PYHOOP_FAILED : PYHOOP_INHERITED;
}

/* Meanwhile loop and descriptor may have been closed, and the number be a transport's. */
static enum pyhoop_outcome attempt_again(OperationObject *self, int fd, PyObject **result) {
    if (check_no_transport(self, fd) < 0 || pyhoop_loop_check_open(self->loop) < 0)
        return PYHOOP_FAILED;
    return self->kind->attempt(self, fd, result);
}

static int hand_on(OperationObject *self) {
    PyObject *args[1 + PYHOOP_OPERATION_ARGS] = {(PyObject *)self->loop};
    for (int i = 0; i < self->arg_count; i++)
        args[1 + i] = self->args[i];
    release_buffer(self);
    self->inner = PyObject_Vectorcall(self->inherited, args, (size_t)self->arg_count + 1, NULL);
    return self->inner == NULL ? -1 : 0;
}

/* What the task gets to wait for; NULL with an exception set. */
static PyObject *start_waiting(OperationObject *self, int fd) {
    struct pyhoop_state *state = self->loop->state;
    if (check_no_transport(self, fd) < 0 || pyhoop_loop_check_open(self->loop) < 0)
        return NULL;
    self->future = PyObject_CallMethodNoArgs((PyObject *)self->loop, state->str_create_future);
    if (self->future == NULL ||
        PyObject_SetAttr(self->future, state->str__asyncio_future_blocking, Py_True) < 0)
        return NULL;
    self->waiter.future = self->future;
    if (pyhoop_waiter_enter(self->loop, self->args[0], fd, self->kind->direction, &self->waiter) <
        0)
        return NULL;
    return Py_NewRef(self->future);
}

/* Refused, yet writable: there is room again, or (a unix datagram to a peer whose queue is full)
 * the kernel has no event for it, and only trying again will tell. */
static bool has_no_event(const OperationObject *self, int fd) {
    return self->kind->direction == PYHOOP_WRITER && hoop_sys_is_writable(fd);
}

static PySendResult send_inner(OperationObject *self, PyObject *value, PyObject **result) {
    self->state = PYHOOP_AWAIT_RUNNING;
    PySendResult outcome = PyIter_Send(self->inner, value, result);
    if (outcome == PYGEN_NEXT)
        self->state = PYHOOP_AWAIT_SUSPENDED;
    else
        finish(self);
    return outcome;
}

static PySendResult end_step(OperationObject *self, PyObject **result) {
    finish(self);
    if (PyErr_Occurred())
        Py_CLEAR(*result);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult step(OperationObject *self, PyObject **result) {
    bool is_first = self->state == PYHOOP_AWAIT_NEW;
    int fd;
    *result = NULL;
    self->state = PYHOOP_AWAIT_RUNNING;
    pyhoop_waiter_leave(&self->waiter);
    Py_CLEAR(self->future);
    enum pyhoop_outcome outcome = PYHOOP_FAILED;
    if (is_first && !is_ours(self))
        outcome = PYHOOP_INHERITED;
    else if (descriptor_of(self, &fd) == 0)
        outcome = is_first ? attempt_first(self, fd, result) : attempt_again(self, fd, result);

    if (outcome == PYHOOP_INHERITED)
        outcome = hand_on(self) < 0 ? PYHOOP_FAILED : PYHOOP_HANDED_ON;
    if (outcome == PYHOOP_HANDED_ON)
        return send_inner(self, Py_None, result);
    if (outcome == PYHOOP_WAIT && has_no_event(self, fd))
        outcome = PYHOOP_TURN;
    if (outcome == PYHOOP_TURN)
        *result = Py_NewRef(Py_None);
    else if (outcome == PYHOOP_WAIT)
        *result = start_waiting(self, fd);
    if ((outcome != PYHOOP_WAIT && outcome != PYHOOP_TURN) || *result == NULL)
        return end_step(self, result);
    self->state = PYHOOP_AWAIT_SUSPENDED;
    return PYGEN_NEXT;
}

/* What runs may drop the last other reference. */
static PySendResult drive(OperationObject *self, PyObject *value, PyObject **result) {
    Py_INCREF(self);
    PySendResult outcome =
        self->inner != NULL ? send_inner(self, value, result) : step(self, result);
    Py_DECREF(self);
    return outcome;
}

/* ---- the coroutine's methods ---- */

static PySendResult operation_send(PyObject *op, PyObject *value, PyObject **result) {
    OperationObject *self = (OperationObject *)op;
    *result = NULL;
    return pyhoop_await_may_send(self->state, value) ? drive(self, value, result) : PYGEN_ERROR;
}

static PyObject *operation_send_method(PyObject *op, PyObject *value) {
    PyObject *result;
    PySendResult outcome = operation_send(op, value, &result);
    return outcome == PYGEN_RETURN ? pyhoop_await_stop(result) : result;
}

static PyObject *operation_next(PyObject *op) {
    return operation_send_method(op, Py_None);
}

static PyObject *throw_inner(OperationObject *self, PyObject *const *args, Py_ssize_t nargs) {
    self->state = PYHOOP_AWAIT_RUNNING;
    PyObject *result =
        pyhoop_await_throw_into(self->inner, self->loop->state->str_throw, args, nargs);
    if (result == NULL)
        finish(self);
    else
        self->state = PYHOOP_AWAIT_SUSPENDED;
    return result;
}

static PyObject *operation_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    OperationObject *self = (OperationObject *)op;
    if (!pyhoop_await_may_throw(args, nargs) || !pyhoop_await_may_send(self->state, Py_None))
        return NULL;
    Py_INCREF(op);
    PyObject *result = NULL;
    if (self->inner != NULL) {
        result = throw_inner(self, args, nargs);
    } else {
        pyhoop_await_raise(args, nargs);
        finish(self);
    }
    Py_DECREF(op);
    return result;
}

static PyObject *operation_close(PyObject *op, PyObject *unused) {
    (void)unused;
    OperationObject *self = (OperationObject *)op;
    if (!pyhoop_await_may_close(self->state))
        return NULL;
    if (self->state == PYHOOP_AWAIT_FINISHED)
        Py_RETURN_NONE;
    Py_INCREF(op);
    if (self->inner != NULL) {
        self->state = PYHOOP_AWAIT_RUNNING;
        PyObject *result = PyObject_CallMethodNoArgs(self->inner, self->loop->state->str_close);
        Py_XDECREF(result);
    }
    finish(self);
    Py_DECREF(op);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *operation_await(PyObject *op) {
    return Py_NewRef(op);
}

/* ---- what a coroutine shows of itself ---- */

static PyObject *get_of_function(PyObject *op, void *name) {
    return PyObject_GetAttrString(((OperationObject *)op)->inherited, name);
}

static PyObject *get_running(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((OperationObject *)op)->state == PYHOOP_AWAIT_RUNNING);
}

static PyObject *operation_repr(PyObject *op) {
    PyObject *name = get_of_function(op, "__qualname__");
    PyObject *text =
        name == NULL ? NULL : PyUnicode_FromFormat("<coroutine object %S at %p>", name, (void *)op);
    Py_XDECREF(name);
    return text;
}

static void operation_finalize(PyObject *op) {
    if (((OperationObject *)op)->state != PYHOOP_AWAIT_NEW)
        return;
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *name = get_of_function(op, "__qualname__");
    pyhoop_await_warn(op, name);
    Py_XDECREF(name);
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
}

/* ---- memory ---- */

static int operation_traverse(PyObject *op, visitproc visit, void *arg) {
    OperationObject *self = (OperationObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->inherited);
    for (int i = 0; i < self->arg_count; i++)
        Py_VISIT(self->args[i]);
    Py_VISIT(self->future);
    Py_VISIT(self->inner);
    if (self->kind == &pyhoop_sock_sendall)
        Py_VISIT(self->buffer.obj);
    return 0;
}

static int operation_clear(PyObject *op) {
    OperationObject *self = (OperationObject *)op;
    self->state = PYHOOP_AWAIT_FINISHED;
    pyhoop_waiter_leave(&self->waiter);
    clear_fields(self);
    Py_CLEAR(self->inherited);
    Py_CLEAR(self->loop);
    return 0;
}

static void operation_dealloc(PyObject *op) {
    if (((OperationObject *)op)->state == PYHOOP_AWAIT_NEW &&
        PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (((OperationObject *)op)->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    (void)operation_clear(op);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyMethodDef operation_methods[] = {
    {"send", operation_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))operation_throw, METH_FASTCALL, NULL},
    {"close", operation_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef operation_getset[] = {
    {"__name__", get_of_function, NULL, NULL, "__name__"},
    {"__qualname__", get_of_function, NULL, NULL, "__qualname__"},
    {"cr_running", get_running, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef operation_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(OperationObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot operation_slots[] = {
    {Py_tp_doc, PyDoc_STR("A socket operation to be awaited, once.")},
    {Py_tp_dealloc, operation_dealloc},
    {Py_tp_traverse, operation_traverse},
    {Py_tp_clear, operation_clear},
    {Py_tp_finalize, operation_finalize},
    {Py_tp_repr, operation_repr},
    {Py_am_await, operation_await},
    {Py_am_send, operation_send},
    {Py_tp_iternext, operation_next},
    {Py_tp_methods, operation_methods},
    {Py_tp_getset, operation_getset},
    {Py_tp_members, operation_members},
    {0, NULL},
};

PyType_Spec pyhoop_operation_spec = {
    .name = "hoop._hoop.SocketOperation",
    .basicsize = sizeof(OperationObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = operation_slots,
};
