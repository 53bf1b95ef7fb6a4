/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "core/sys.h"
#include "py/datagram.h"

enum outcome { FAILED = -1, BLOCKED, SENT }; /* FAILED: with an exception */

/* ---- one datagram ---- */

/* Whether send() will do, or `address` is needed. */
static bool needs_no_address(const DatagramObject *self, PyObject *address) {
    return self->is_connected || (self->has_unnamed_peer && address == Py_None);
}

/* The address in the kernel's form, or NULL without an exception: the socket object's affair. */
static const struct pyhoop_peer *find_peer(DatagramObject *self, PyObject *address) {
    if (address == self->from.address)
        return &self->from;
    if (address == self->to.address)
        return &self->to;
    union pyhoop_sockaddr found;
    socklen_t length = pyhoop_sockaddr(self->family, address, &found);
    if (length == 0)
        return NULL;
    self->to.sockaddr = found;
    self->to.length = length;
    Py_XSETREF(self->to.address, Py_NewRef(address));
    return &self->to;
}

static enum outcome send_by_socket_object(DatagramObject *self, PyObject *data, PyObject *address) {
    struct pyhoop_state *state = self->base.loop->state;
    PyObject *socket = Py_NewRef(self->base.socket);
    PyObject *result =
        needs_no_address(self, address)
            ? PyObject_CallMethodOneArg(socket, state->str_send, data)
            : PyObject_CallMethodObjArgs(socket, state->str_sendto, data, address, NULL);
    Py_DECREF(socket);
    Py_XDECREF(result);
    if (result != NULL)
        return SENT;
    return pyhoop_datagram_would_block() ? BLOCKED : FAILED;
}

static enum outcome send_buffer(DatagramObject *self, const void *bytes, size_t size,
                                const struct pyhoop_peer *to) {
    int fd = self->base.fd;
    ssize_t rc = to == NULL ? hoop_sys_send(fd, bytes, size)
                            : hoop_sys_send_to(fd, bytes, size, &to->sockaddr.any, to->length);
    if (rc >= 0)
        return SENT;
    if (rc == -EAGAIN)
        return BLOCKED;
    pyhoop_raise_errno((int)rc);
    return FAILED;
}

static enum outcome send_one(DatagramObject *self, PyObject *data, PyObject *address) {
    const struct pyhoop_peer *to = NULL;
    bool is_foreign = self->is_foreign;
    if (!is_foreign && !needs_no_address(self, address)) {
        to = find_peer(self, address);
        is_foreign = to == NULL;
    }
    if (is_foreign)
        return send_by_socket_object(self, data, address);
    if (PyBytes_CheckExact(data))
        return send_buffer(self, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), to);
    Py_buffer buffer;
    if (PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE) < 0)
        return FAILED;
    enum outcome outcome = send_buffer(self, buffer.buf, (size_t)buffer.len, to);
    PyBuffer_Release(&buffer);
    return outcome;
}

/* 0, or -1 with what error_received raised, or an exception to leave the loop. */
static int fail_send(DatagramObject *self) {
    if (PyErr_ExceptionMatches(PyExc_OSError) && self->base.loop != NULL)
        return pyhoop_datagram_error_received(self);
    return pyhoop_transport_fatal(&self->base, "Fatal write error on datagram transport");
}

/* ---- those that wait ---- */

static size_t size_of_pair(PyObject *pair) {
    return (size_t)PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 0)) + PYHOOP_DATAGRAM_HEADER_SIZE;
}

/* Keeps a datagram until the descriptor is writable; mutable data is copied. */
static int keep(DatagramObject *self, PyObject *data, PyObject *address) {
    TransportObject *base = &self->base;
    if (base->conn_lost > 0 || base->loop == NULL) /* nothing will be sent any more */
        return 0;
    if (base->out.count == 0 && pyhoop_loop_check_open(base->loop) < 0)
        return -1;
    PyObject *bytes = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyBytes_FromObject(data);
    PyObject *pair = bytes == NULL ? NULL : PyTuple_Pack(2, bytes, address);
    Py_XDECREF(bytes);
    if (pair == NULL)
        return -1;
    if (pyhoop_outqueue_give_sized(&base->out, pair, size_of_pair(pair)) < 0) {
        Py_DECREF(pair);
        return -1;
    }
    base->flags |= PYHOOP_TRANSPORT_BLOCKED;
    if (pyhoop_transport_update(base) < 0)
        return -1;
    return pyhoop_transport_maybe_pause(base);
}

/* Sends the first of those that wait and takes it away, but if the kernel is BLOCKED still. */
static enum outcome send_first(DatagramObject *self) {
    struct pyhoop_outqueue *out = &self->base.out;
    PyObject *pair = Py_NewRef(pyhoop_outqueue_chunk(out, 0));
    enum outcome outcome = send_one(self, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    if (outcome != BLOCKED && out->count > 0 && pyhoop_outqueue_chunk(out, 0) == pair)
        Py_DECREF(pyhoop_outqueue_take(out, size_of_pair(pair)));
    Py_DECREF(pair);
    return outcome;
}

int pyhoop_datagram_send_ready(DatagramObject *self) {
    TransportObject *base = &self->base;
    enum outcome outcome = SENT;
    while (outcome == SENT && base->conn_lost == 0 && base->out.count > 0)
        outcome = send_first(self);
    if (outcome == FAILED) { /* the next event goes on with the rest */
        if (fail_send(self) == 0)
            return 0;
        return pyhoop_transport_report(base, "Exception in callback protocol.error_received()");
    }
    if (base->conn_lost > 0)
        return 0;
    if (base->out.count == 0)
        base->flags &= ~(uint32_t)PYHOOP_TRANSPORT_BLOCKED;
    if (pyhoop_transport_maybe_resume(base) < 0 || pyhoop_transport_update(base) < 0)
        return -1;
    bool is_done = base->flags & PYHOOP_TRANSPORT_CLOSING && base->out.count == 0;
    return is_done && base->conn_lost == 0 ? pyhoop_transport_lose(base, NULL) : 0;
}

/* ---- the method ---- */

/* sendto(data, addr=None), borrowed. */
static int parse(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **values) {
    static const char *const names[] = {"data", "addr"};
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    bool is_wrong = total > 2;
    for (Py_ssize_t i = 0; i < total && !is_wrong; i++) {
        Py_ssize_t place = i;
        if (i >= nargs) {
            PyObject *name = PyTuple_GET_ITEM(kwnames, i - nargs);
            place = PyUnicode_CompareWithASCIIString(name, names[0]) == 0 ? 0 : 1;
            is_wrong =
                PyUnicode_CompareWithASCIIString(name, names[place]) != 0 || values[place] != NULL;
        }
        values[place] = args[i];
    }
    if (!is_wrong && values[0] != NULL)
        return 0;
    PyErr_SetString(PyExc_TypeError, "sendto() takes the arguments 'data' and 'addr' (or none)");
    return -1;
}

static bool is_bytes_like(PyObject *data) {
    return PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data);
}

/* asyncio's: a transport with an address of its own sends nowhere else. */
static int check_address(DatagramObject *self, PyObject *address) {
    if (address == Py_None || address == self->address)
        return 0;
    int is_same = PyObject_RichCompareBool(address, self->address, Py_EQ);
    if (is_same == 0)
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", self->address);
    return is_same > 0 ? 0 : -1;
}

static int send_or_keep(DatagramObject *self, PyObject *data, PyObject *address) {
    TransportObject *base = &self->base;
    if (base->fd < 0 || base->loop == NULL || (base->conn_lost > 0 && self->address != NULL))
        return pyhoop_transport_write_after_loss(base);
    if (base->out.count > 0)
        return keep(self, data, address);
    switch (send_one(self, data, address)) {
    case SENT:
        return 0;
    case BLOCKED:
        return keep(self, data, address);
    default:
        return fail_send(self);
    }
}

PyObject *pyhoop_datagram_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    DatagramObject *self = (DatagramObject *)op;
    PyObject *values[2] = {NULL, NULL};
    if (parse(args, nargs, kwnames, values) < 0)
        return NULL;
    PyObject *data = values[0], *address = values[1] == NULL ? Py_None : values[1];
    if (!is_bytes_like(data)) {
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                     Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (self->address != NULL) {
        if (check_address(self, address) < 0)
            return NULL;
        address = self->address;
    }
    if (address == NULL) /* a comparison ran code that gave up the transport */
        address = Py_None;
    Py_INCREF(address);
    int rc = send_or_keep(self, data, address);
    Py_DECREF(address);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}
