/* SPDX-License-Identifier: MIT */
#include "py/pipe.h"

#include <errno.h>

#include "core/sys.h"
#include "py/readers.h"

ssize_t pyhoop_pipe_receive(TransportObject *self, void *buffer, size_t size) {
    return self->flags & PYHOOP_TRANSPORT_SHARED ? hoop_sys_read_now(self->fd, buffer, size)
                                                 : hoop_sys_read(self->fd, buffer, size);
}

ssize_t pyhoop_pipe_send(int fd, uint32_t flags, const struct iovec *vector, size_t count) {
    return flags & PYHOOP_TRANSPORT_SHARED ? hoop_sys_write_now(fd, vector, count)
                                           : hoop_sys_write_vector(fd, vector, count);
}

static int log_hang_up(TransportObject *self) {
    if (!self->loop->is_debug)
        return 0;
    PyObject *result = PyObject_CallOneArg(self->loop->state->cold_log_hang_up, (PyObject *)self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int pyhoop_pipe_ended(TransportObject *self) {
    if (log_hang_up(self) < 0)
        return -1;
    self->flags |= PYHOOP_TRANSPORT_CLOSING;
    if (pyhoop_transport_update(self) < 0)
        return -1;
    PyObject *result = pyhoop_transport_call(self, self->loop->state->str_eof_received, NULL);
    int rc = 0;
    if (result == NULL)
        rc = pyhoop_transport_report(self, "Exception in callback protocol.eof_received()");
    Py_XDECREF(result);
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (self->conn_lost == 0 && self->loop != NULL && pyhoop_transport_lose(self, NULL) < 0)
        rc = -1;
    if (raised != NULL) {
        PyErr_Clear(); /* the first exception counts */
        PyErr_SetRaisedException(raised);
    }
    return rc;
}

int pyhoop_pipe_hung_up(TransportObject *self) {
    if (self->conn_lost > 0)
        return 0;
    if (log_hang_up(self) < 0)
        return -1;
    if (self->loop == NULL || self->out.size == 0)
        return pyhoop_transport_force_close(self, NULL);
    PyObject *exception = PyObject_CallNoArgs(PyExc_BrokenPipeError);
    if (exception == NULL)
        return -1;
    int rc = pyhoop_transport_force_close(self, exception);
    Py_DECREF(exception);
    return rc;
}

bool pyhoop_pipe_is_hang_up(PyObject *exception) {
    PyObject *number = PyObject_GetAttrString(exception, "errno");
    long error = number != NULL && PyLong_Check(number) ? PyLong_AsLong(number) : 0;
    Py_XDECREF(number);
    PyErr_Clear(); /* AttributeError, OverflowError: then it is not EIO */
    return error == EIO;
}

/* ---- making one ---- */

static uint32_t flags_of(int is_reader, int access, int hears_end) {
    uint32_t flags = is_reader ? PYHOOP_TRANSPORT_READ_PIPE : PYHOOP_TRANSPORT_WRITE_PIPE;
    if (!hears_end)
        flags |= PYHOOP_TRANSPORT_DEAF;
    if (access != PYHOOP_PIPE_SOCKET)
        flags |= PYHOOP_TRANSPORT_NO_SOCKET;
    if (access == PYHOOP_PIPE_SHARED)
        flags |= PYHOOP_TRANSPORT_SHARED;
    return flags;
}

static PyObject *extra_of(PyObject *extra, PyObject *pipe) {
    PyObject *copy = extra == Py_None ? PyDict_New() : PyDict_Copy(extra);
    if (copy != NULL && PyDict_SetItemString(copy, "pipe", pipe) < 0)
        Py_CLEAR(copy);
    return copy;
}

PyObject *pyhoop_loop_make_pipe_transport(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"pipe",   "fd",    "is_reader", "access", "protocol",
                            "waiter", "extra", "hears_end", NULL};
    LoopObject *loop = (LoopObject *)op;
    PyObject *pipe, *protocol, *waiter, *extra;
    int fd, is_reader, access, hears_end = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OipiOOO|p:_make_pipe_transport", names, &pipe,
                                     &fd, &is_reader, &access, &protocol, &waiter, &extra,
                                     &hears_end))
        return NULL;
    if (pyhoop_loop_check_open(loop) < 0)
        return NULL;
    int pipe_fd = pyhoop_fd_of(loop->state, pipe);
    if (pipe_fd < 0)
        return NULL;
    uint32_t flags = flags_of(is_reader, access, hears_end);
    if (fd != pipe_fd)
        flags |= PYHOOP_TRANSPORT_OWN_FD;
    PyObject *dict = extra_of(extra, pipe);
    if (dict == NULL)
        return NULL;
    PyTypeObject *type = is_reader ? loop->state->read_pipe_type : loop->state->write_pipe_type;
    TransportObject *self = pyhoop_transport_new_pipe(loop, type, flags, fd, pipe, protocol,
                                                      waiter == Py_None ? NULL : waiter);
    if (self == NULL)
        Py_DECREF(dict);
    else
        self->extra = dict;
    return (PyObject *)self;
}

/* ---- the types ---- */

static PyObject *pipe_repr(PyObject *op) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    return state == NULL ? NULL : PyObject_CallOneArg(state->cold_describe_pipe, op);
}

static PyObject *get_pipe(PyObject *op, void *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    return Py_NewRef(self->fd < 0 || self->socket == NULL ? Py_None : self->socket);
}

/* asyncio's tests and tools assign None: then the pipe is theirs, and nothing is left to do. */
static int set_pipe(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "only None can be assigned");
        return -1;
    }
    pyhoop_transport_let_go((TransportObject *)op);
    return 0;
}

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef write_pipe_methods[] = {
    {"write", KEYWORDS(pyhoop_transport_write), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("write($self, data)\n--\n\nWrite bytes; what the kernel does not take is kept. "
               "asyncio.WriteTransport.")},
    {"writelines", KEYWORDS(pyhoop_transport_writelines), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("writelines($self, list_of_data)\n--\n\nWrite each bytes-like object of an "
               "iterable. asyncio.WriteTransport.")},
    {"write_eof", pyhoop_transport_close_method, METH_NOARGS,
     PyDoc_STR("write_eof($self)\n--\n\nThe same as close(). asyncio.WriteTransport.")},
    {"can_write_eof", pyhoop_transport_can_write_eof, METH_NOARGS,
     PyDoc_STR("can_write_eof($self)\n--\n\nTrue.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pipe_getset[] = {
    {"_pipe", get_pipe, set_pipe, NULL, NULL},
    {"_fileno", pyhoop_transport_get_fd, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef pipe_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(TransportObject, dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(TransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, PyDoc_STR("The reading end of a pipe. asyncio.ReadTransport.")},
    {Py_tp_dealloc, pyhoop_transport_dealloc},
    {Py_tp_finalize, pyhoop_transport_finalize},
    {Py_tp_traverse, pyhoop_transport_traverse},
    {Py_tp_clear, pyhoop_transport_clear},
    {Py_tp_repr, pipe_repr},
    {Py_tp_getset, pipe_getset},
    {Py_tp_members, pipe_members},
    {0, NULL},
};

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, PyDoc_STR("The writing end of a pipe. asyncio.WriteTransport, and "
                          "asyncio.Transport as in asyncio.")},
    {Py_tp_dealloc, pyhoop_transport_dealloc},
    {Py_tp_finalize, pyhoop_transport_finalize},
    {Py_tp_traverse, pyhoop_transport_traverse},
    {Py_tp_clear, pyhoop_transport_clear},
    {Py_tp_repr, pipe_repr},
    {Py_tp_getset, pipe_getset},
    {Py_tp_members, pipe_members},
    {Py_tp_methods, write_pipe_methods},
    {0, NULL},
};

PyType_Spec pyhoop_read_pipe_spec = {
    .name = "hoop._hoop.ReadPipeTransport",
    .basicsize = sizeof(TransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = read_pipe_slots,
};

PyType_Spec pyhoop_write_pipe_spec = {
    .name = "hoop._hoop.WritePipeTransport",
    .basicsize = sizeof(TransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = write_pipe_slots,
};
