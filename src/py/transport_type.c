/* SPDX-License-Identifier: MIT
 *
 * transport_type: the Python side of transports: methods and attributes that the kinds share,
 * and the type of stream sockets.
 */
#include "core/sys.h"
#include "py/stream.h"
#include "py/transport.h"

/* ---- methods ---- */

PyObject *pyhoop_transport_close_method(PyObject *op, PyObject *unused) {
    (void)unused;
    if (pyhoop_transport_close((TransportObject *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* What a phase's writes left goes out first: asyncio would have sent it by now. */
static PyObject *transport_abort(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (pyhoop_transport_flush_deferred(self) < 0)
        return NULL;
    if (pyhoop_transport_force_close(self, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transport_force_close(PyObject *op, PyObject *exception) {
    TransportObject *self = (TransportObject *)op;
    if (pyhoop_transport_flush_deferred(self) < 0)
        return NULL;
    if (pyhoop_transport_force_close(self, exception == Py_None ? NULL : exception) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transport_is_closing(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(pyhoop_transport_is_closing((TransportObject *)op));
}

static bool is_reading(const TransportObject *self) {
    return !(self->flags & (PYHOOP_TRANSPORT_CLOSING | PYHOOP_TRANSPORT_PAUSED));
}

static PyObject *transport_is_reading(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(is_reading((TransportObject *)op));
}

static PyObject *transport_pause_reading(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (!is_reading(self))
        Py_RETURN_NONE;
    self->flags |= PYHOOP_TRANSPORT_PAUSED;
    if (pyhoop_transport_update(self) < 0 ||
        pyhoop_transport_log_debug(self, "%r pauses reading") < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transport_resume_reading(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->flags & PYHOOP_TRANSPORT_CLOSING || !(self->flags & PYHOOP_TRANSPORT_PAUSED))
        Py_RETURN_NONE;
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_PAUSED;
    if (pyhoop_transport_update(self) < 0 ||
        pyhoop_transport_log_debug(self, "%r resumes reading") < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transport_set_protocol(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames) {
    PyObject *protocol = pyhoop_one_argument("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL)
        return NULL;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    TransportObject *self = (TransportObject *)op;
    if (state == NULL || pyhoop_transport_use_protocol(self, protocol, state) < 0)
        return NULL;
    pyhoop_stream_detach(self);
    if (self->flags & PYHOOP_TRANSPORT_MADE && self->loop != NULL && pyhoop_stream_attach(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *or_none(PyObject *object) {
    return Py_NewRef(object != NULL ? object : Py_None);
}

static PyObject *transport_get_protocol(PyObject *op, PyObject *unused) {
    (void)unused;
    return or_none(((TransportObject *)op)->protocol);
}

PyObject *pyhoop_transport_can_write_eof(PyObject *op, PyObject *unused) {
    (void)op;
    (void)unused;
    Py_RETURN_TRUE;
}

/* For sendfile: while asyncio's code drives the descriptor itself, the loop does not watch it. */
static PyObject *transport_lend_descriptor(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->watch.fd >= 0)
        pyhoop_transport_stop_watching(self);
    Py_RETURN_NONE;
}

static PyObject *transport_take_descriptor_back(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->loop == NULL || self->fd < 0 || self->loop->is_closed || self->watch.fd >= 0)
        Py_RETURN_NONE;
    hoop_watches_forget(&self->loop->core.watches, self->fd);
    int rc = hoop_watches_start(&self->loop->core.watches, &self->watch, self->fd, 0);
    if (rc < 0)
        return pyhoop_raise_errno(rc);
    if (pyhoop_transport_update(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_transport_repr(PyObject *op) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state == NULL)
        return NULL;
    return PyObject_CallOneArg(state->cold_describe_transport, op);
}

/* ---- attributes ---- */

static PyObject *get_sock(PyObject *op, void *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->flags & PYHOOP_TRANSPORT_LOST)
        Py_RETURN_NONE;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    PyObject *socket = state == NULL ? NULL : pyhoop_transport_socket(self, state);
    return socket == NULL && PyErr_Occurred() ? NULL : or_none(socket);
}

PyObject *pyhoop_transport_get_fd(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromLong(((TransportObject *)op)->fd);
}

static PyObject *get_loop(PyObject *op, void *unused) {
    (void)unused;
    return or_none((PyObject *)((TransportObject *)op)->loop);
}

static PyObject *get_protocol(PyObject *op, void *unused) {
    (void)unused;
    return or_none(((TransportObject *)op)->protocol);
}

static PyObject *get_server(PyObject *op, void *unused) {
    (void)unused;
    return or_none(((TransportObject *)op)->server);
}

static PyObject *get_flag(PyObject *op, void *flag) {
    return PyBool_FromLong((long)(((TransportObject *)op)->flags & (uint32_t)(uintptr_t)flag));
}

static PyObject *get_conn_lost(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromLong(((TransportObject *)op)->conn_lost);
}

/* What is queued, without trying to send it: for repr. */
static PyObject *get_queued(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(((TransportObject *)op)->out.size);
}

static PyObject *get_polled(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(((TransportObject *)op)->watch.wanted);
}

/* ---- tables ---- */

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef stream_methods[] = {
    {"write", KEYWORDS(pyhoop_transport_write), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("write($self, data)\n--\n\nSend bytes, after what was written before. "
               "asyncio.WriteTransport.\n\n"
               "Does not wait: what the kernel does not take is kept. The first write of an\n"
               "iteration goes out at once, the others leave together soon after.")},
    {"writelines", KEYWORDS(pyhoop_transport_writelines), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("writelines($self, list_of_data)\n--\n\nSend each bytes-like object of an "
               "iterable. asyncio.WriteTransport.")},
    {"write_eof", pyhoop_transport_write_eof, METH_NOARGS,
     PyDoc_STR("write_eof($self)\n--\n\nClose the sending half once all is sent. "
               "asyncio.WriteTransport.")},
    {"can_write_eof", pyhoop_transport_can_write_eof, METH_NOARGS,
     PyDoc_STR("can_write_eof($self)\n--\n\nTrue.")},
    {"_make_empty_waiter", pyhoop_transport_make_empty_waiter, METH_NOARGS,
     PyDoc_STR("_make_empty_waiter($self)\n--\n\n")},
    {"_reset_empty_waiter", pyhoop_transport_reset_empty_waiter, METH_NOARGS,
     PyDoc_STR("_reset_empty_waiter($self)\n--\n\n")},
    {"_lend_descriptor", transport_lend_descriptor, METH_NOARGS,
     PyDoc_STR("_lend_descriptor($self)\n--\n\nStop watching the descriptor: somebody else drives "
               "it for a while.")},
    {"_take_descriptor_back", transport_take_descriptor_back, METH_NOARGS,
     PyDoc_STR("_take_descriptor_back($self)\n--\n\nWatch the descriptor again.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef writing_methods[] = {
    {"get_write_buffer_size", pyhoop_transport_get_write_buffer_size, METH_NOARGS,
     PyDoc_STR("get_write_buffer_size($self)\n--\n\nBytes the kernel has not taken yet. "
               "asyncio.WriteTransport.")},
    {"get_write_buffer_limits", pyhoop_transport_get_write_buffer_limits, METH_NOARGS,
     PyDoc_STR(
         "get_write_buffer_limits($self)\n--\n\n(low, high) in bytes. asyncio.WriteTransport.")},
    {"set_write_buffer_limits", KEYWORDS(pyhoop_transport_set_write_buffer_limits),
     METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("set_write_buffer_limits($self, high=None, low=None)\n--\n\nWhen the protocol is "
               "paused and resumed, in bytes. asyncio.WriteTransport.")},
    {"abort", transport_abort, METH_NOARGS,
     PyDoc_STR(
         "abort($self)\n--\n\nClose at once and drop what is unsent. asyncio.WriteTransport.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef reading_methods[] = {
    {"pause_reading", transport_pause_reading, METH_NOARGS,
     PyDoc_STR("pause_reading($self)\n--\n\nDeliver nothing until resume_reading(). "
               "asyncio.ReadTransport.")},
    {"resume_reading", transport_resume_reading, METH_NOARGS,
     PyDoc_STR("resume_reading($self)\n--\n\nUndo pause_reading(). asyncio.ReadTransport.")},
    {"is_reading", transport_is_reading, METH_NOARGS,
     PyDoc_STR("is_reading($self)\n--\n\nNeither paused nor closing. asyncio.ReadTransport.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef socket_methods[] = {
    {"get_extra_info", KEYWORDS(pyhoop_transport_get_extra_info), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("get_extra_info($self, name, default=None)\n--\n\n'socket', 'sockname', 'peername'. "
               "asyncio.BaseTransport.")},
    {"_force_close", transport_force_close, METH_O,
     PyDoc_STR("_force_close($self, exception, /)\n--\n\n")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef shared_methods[] = {
    {"close", pyhoop_transport_close_method, METH_NOARGS,
     PyDoc_STR("close($self)\n--\n\nClose when everything is sent; connection_lost(None) follows. "
               "asyncio.BaseTransport.")},
    {"is_closing", transport_is_closing, METH_NOARGS,
     PyDoc_STR("is_closing($self)\n--\n\nClosed or about to be. asyncio.BaseTransport.")},
    {"set_protocol", KEYWORDS(transport_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
         "set_protocol($self, protocol)\n--\n\nReplace the protocol. asyncio.BaseTransport.")},
    {"get_protocol", transport_get_protocol, METH_NOARGS,
     PyDoc_STR("get_protocol($self)\n--\n\nThe protocol; None after connection_lost. "
               "asyncio.BaseTransport.")},
    {NULL, NULL, 0, NULL},
};

#define FLAG(name, flag) {name, get_flag, NULL, NULL, (void *)(uintptr_t)(flag)}

static PyGetSetDef stream_getset[] = {
    {"_server", get_server, NULL, NULL, NULL},
    FLAG("_eof", PYHOOP_TRANSPORT_EOF_WRITTEN),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef socket_getset[] = {
    {"_extra", pyhoop_transport_get_extra, NULL, NULL, NULL},
    {"_sock", get_sock, NULL, NULL, NULL},
    {"_sock_fd", pyhoop_transport_get_fd, NULL, NULL, NULL},
    {"_protocol", get_protocol, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_queued_size", get_queued, NULL, NULL, NULL},
    {"_polled_events", get_polled, NULL, NULL, NULL},
    FLAG("_closing", PYHOOP_TRANSPORT_CLOSING),
    FLAG("_paused", PYHOOP_TRANSPORT_PAUSED),
    FLAG("_protocol_paused", PYHOOP_TRANSPORT_PROTOCOL_PAUSED),
    {NULL, NULL, NULL, NULL, NULL},
};

static int give_descriptor(PyTypeObject *type, const char *name, PyObject *descriptor) {
    int rc = descriptor == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, name, descriptor);
    Py_XDECREF(descriptor);
    return rc;
}

static int share(PyTypeObject *type, PyMethodDef *methods, PyGetSetDef *getset) {
    int rc = 0;
    for (; rc == 0 && methods->ml_name != NULL; methods++)
        rc = give_descriptor(type, methods->ml_name, PyDescr_NewMethod(type, methods));
    for (; rc == 0 && getset->name != NULL; getset++)
        rc = give_descriptor(type, getset->name, PyDescr_NewGetSet(type, getset));
    return rc;
}

int pyhoop_transport_share(PyTypeObject *type, int parts) {
    static PyGetSetDef no_getset[] = {{NULL, NULL, NULL, NULL, NULL}};
    int rc = share(type, shared_methods, shared_getset);
    if (rc == 0 && parts & PYHOOP_TRANSPORT_READS)
        rc = share(type, reading_methods, no_getset);
    if (rc == 0 && parts & PYHOOP_TRANSPORT_WRITES)
        rc = share(type, writing_methods, no_getset);
    if (rc == 0 && parts & PYHOOP_TRANSPORT_HAS_SOCKET)
        rc = share(type, socket_methods, socket_getset);
    return rc;
}

static PyMemberDef transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(TransportObject, dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(TransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, PyDoc_STR("A connected stream socket, TCP or unix. asyncio.Transport.")},
    {Py_tp_dealloc, pyhoop_transport_dealloc},
    {Py_tp_finalize, pyhoop_transport_finalize},
    {Py_tp_traverse, pyhoop_transport_traverse},
    {Py_tp_clear, pyhoop_transport_clear},
    {Py_tp_repr, pyhoop_transport_repr},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {Py_tp_members, transport_members},
    {0, NULL},
};

PyType_Spec pyhoop_transport_spec = {
    .name = "hoop._hoop.SocketTransport",
    .basicsize = sizeof(TransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = transport_slots,
};
