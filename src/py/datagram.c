/* SPDX-License-Identifier: MIT */
#include "py/datagram.h"

#include <errno.h>
#include <string.h>

#include "core/sys.h"

enum {
    MAX_PER_ROUND = 64,
    MAX_BYTES_PER_ROUND = 256 * 1024,
    LONE_ROUNDS = 8, /* of one datagram each, until the next look for a second one */
};

static const char read_error[] = "Fatal read error on datagram transport";

/* ---- what comes in ---- */

int pyhoop_datagram_error_received(DatagramObject *self) {
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *result =
        pyhoop_transport_call(&self->base, self->base.loop->state->str_error_received, exception);
    Py_DECREF(exception);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

bool pyhoop_datagram_would_block(void) {
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) &&
        !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return false;
    PyErr_Clear();
    return true;
}

/* The call raised: the protocol's affair, or fatal. 0, or -1 to leave the loop. */
static int fail_receive(DatagramObject *self) {
    if (!PyErr_ExceptionMatches(PyExc_OSError) || self->base.loop == NULL)
        return pyhoop_transport_fatal(&self->base, read_error);
    if (pyhoop_datagram_error_received(self) == 0)
        return 0;
    return pyhoop_transport_report(&self->base, "Exception in callback protocol.error_received()");
}

/* Borrowed arguments. 1, or -1 to leave the loop. */
static int deliver(DatagramObject *self, PyObject *data, PyObject *address) {
    TransportObject *base = &self->base;
    PyObject *result = pyhoop_transport_call_with_two(
        base, base->loop->state->str_datagram_received, data, address);
    Py_XDECREF(result);
    if (result != NULL)
        return 1;
    int rc = pyhoop_transport_report(base, "Exception in callback protocol.datagram_received()");
    return rc < 0 ? -1 : 1;
}

/* The sender's address, new reference: the same object while the sender is the same. */
static PyObject *address_of(DatagramObject *self, const union pyhoop_sockaddr *from,
                            socklen_t length) {
    struct pyhoop_peer *last = &self->from;
    if (last->address != NULL && length == last->length &&
        memcmp(from, &last->sockaddr, length) == 0)
        return Py_NewRef(last->address);
    PyObject *address = pyhoop_address(&from->any, length);
    if (address != NULL && address != Py_None) {
        memcpy(&last->sockaddr, from, length);
        last->length = length;
        Py_XSETREF(last->address, Py_NewRef(address));
    }
    return address;
}

/* 1: a datagram came; 0: none did; -1: leave the loop. */
static int receive_one(DatagramObject *self, size_t *received) {
    TransportObject *base = &self->base;
    char *scratch = pyhoop_loop_scratch(base->loop);
    if (scratch == NULL)
        return pyhoop_transport_fatal(base, read_error);
    size_t limit = self->max_size < 0                     ? 0
                   : self->max_size > PYHOOP_SCRATCH_SIZE ? PYHOOP_SCRATCH_SIZE
                                                          : (size_t)self->max_size;
    union pyhoop_sockaddr from;
    socklen_t length = sizeof(from);
    ssize_t size = hoop_sys_recv_from(base->fd, scratch, limit, &from.any, &length);
    if (size == -EAGAIN)
        return 0;
    if (size < 0) {
        pyhoop_raise_errno((int)size);
        return fail_receive(self);
    }
    *received += (size_t)size;
    PyObject *data = PyBytes_FromStringAndSize(scratch, size);
    PyObject *address = data == NULL ? NULL : address_of(self, &from, length);
    int rc =
        address == NULL ? pyhoop_transport_fatal(base, read_error) : deliver(self, data, address);
    Py_XDECREF(address);
    Py_XDECREF(data);
    return rc;
}

/* The same through the socket object's recvfrom(). */
static int receive_one_foreign(DatagramObject *self) {
    TransportObject *base = &self->base;
    PyObject *socket = Py_NewRef(base->socket);
    PyObject *pair = PyObject_CallMethod(socket, "recvfrom", "n", self->max_size);
    Py_DECREF(socket);
    if (pair == NULL)
        return pyhoop_datagram_would_block() ? 0 : fail_receive(self);
    if (base->conn_lost > 0) { /* the method ended the transport */
        Py_DECREF(pair);
        return 0;
    }
    PyObject *data = PySequence_GetItem(pair, 0);
    PyObject *address = data == NULL ? NULL : PySequence_GetItem(pair, 1);
    Py_DECREF(pair);
    int rc =
        address == NULL ? pyhoop_transport_fatal(base, read_error) : deliver(self, data, address);
    Py_XDECREF(address);
    Py_XDECREF(data);
    return rc;
}

/* Whether the next readiness is worth a second call is learnt from this round's. */
static void learn(DatagramObject *self, int count) {
    if (count > 1) {
        self->expects_more = true;
    } else if (self->expects_more) {
        self->expects_more = false;
        self->lone_rounds = 0;
    } else {
        self->expects_more = ++self->lone_rounds >= LONE_ROUNDS;
    }
}

static int receive_round(DatagramObject *self) {
    int limit = self->expects_more ? MAX_PER_ROUND : 1;
    int count = 0;
    size_t received = 0;
    int rc = 1;
    /* The protocol may pause, close, or finish the transport meanwhile. */
    while (rc > 0 && count < limit && received < MAX_BYTES_PER_ROUND &&
           self->base.watch.wanted & HOOP_POLL_READ) {
        rc = self->is_foreign ? receive_one_foreign(self) : receive_one(self, &received);
        count += rc > 0;
    }
    learn(self, count);
    return rc < 0 ? -1 : 0;
}

/* ---- events ---- */

static DatagramObject *of_turn(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, DatagramObject, turn);
}

static int turn_run(struct hoop_item *item) {
    DatagramObject *self = of_turn(item);
    uint32_t events = self->ready;
    self->ready = 0;
    int rc = 0;
    if (events & HOOP_POLL_READ)
        rc = receive_round(self);
    if (rc == 0 && events & HOOP_POLL_WRITE && self->base.flags & PYHOOP_TRANSPORT_BLOCKED)
        rc = pyhoop_datagram_send_ready(self);
    Py_DECREF(self);
    return rc;
}

static void turn_drop(struct hoop_item *item) {
    of_turn(item)->ready = 0;
    Py_DECREF(of_turn(item));
}

static int turn_traverse(struct hoop_item *item, visitproc visit, void *arg) {
    Py_VISIT(of_turn(item));
    return 0;
}

static const struct pyhoop_item_type turn_type = {{turn_run, turn_drop}, turn_traverse};

static int on_events(struct hoop_watch *watch, uint32_t events) {
    DatagramObject *self = (DatagramObject *)pyhoop_transport_of_watch(watch);
    bool is_queued = self->ready != 0;
    /* No memory to queue it: what is ready is reported again. */
    if (!is_queued && hoop_loop_give(&self->base.loop->core, &self->turn) < 0)
        return 0;
    self->ready |= events;
    if (!is_queued)
        Py_INCREF(self);
    return 0;
}

static const struct pyhoop_watch_type watch_type = {{on_events, pyhoop_transport_forget},
                                                    pyhoop_transport_traverse_watch};

/* ---- making ---- */

/* What getsockname() or getpeername() of the socket object says; None if it raises OSError. */
static PyObject *ask_name(PyObject *socket, PyObject *method) {
    PyObject *name = PyObject_CallMethodNoArgs(socket, method);
    if (name != NULL || !PyErr_ExceptionMatches(PyExc_OSError))
        return name;
    PyErr_Clear();
    Py_RETURN_NONE;
}

/* A copy of `extra` with the addresses of a foreign socket in it, of which only the socket knows
 * what they look like. */
static PyObject *foreign_extra(struct pyhoop_state *state, PyObject *socket, PyObject *extra) {
    PyObject *names[][2] = {{state->str_sockname, state->str_getsockname},
                            {state->str_peername, state->str_getpeername}};
    PyObject *result = extra == Py_None ? PyDict_New() : PyDict_Copy(extra);
    for (int i = 0; result != NULL && i < 2; i++) {
        int has = PyDict_Contains(result, names[i][0]);
        PyObject *name = has != 0 ? NULL : ask_name(socket, names[i][1]);
        if (has < 0 || (has == 0 && name == NULL) ||
            (has == 0 && PyDict_SetItem(result, names[i][0], name) < 0))
            Py_CLEAR(result);
        Py_XDECREF(name);
    }
    return result;
}

static int note_foreign_peer(DatagramObject *self) {
    struct pyhoop_state *state = self->base.loop->state;
    PyObject *name = NULL;
    if (PyDict_GetItemRef(self->base.extra, state->str_peername, &name) < 0)
        return -1;
    int is_true = name == NULL ? 0 : PyObject_IsTrue(name);
    self->is_connected = is_true > 0;
    self->has_unnamed_peer = is_true == 0 && name != NULL && name != Py_None;
    Py_XDECREF(name);
    return is_true < 0 ? -1 : 0;
}

static int note_peer(DatagramObject *self) {
    union pyhoop_sockaddr peer;
    socklen_t length = sizeof(peer);
    if (self->is_foreign)
        return note_foreign_peer(self);
    if (hoop_sys_peer_name(self->base.fd, &peer.any, &length) < 0)
        return 0;
    self->is_connected = length > sizeof(sa_family_t);
    self->has_unnamed_peer = !self->is_connected;
    return 0;
}

static bool knows_family(int family) {
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

PyObject *pyhoop_loop_make_datagram_transport(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"sock", "protocol", "address", "waiter", "extra", NULL};
    LoopObject *loop = (LoopObject *)op;
    struct pyhoop_state *state = loop->state;
    PyObject *socket, *protocol, *address = Py_None, *waiter = Py_None, *extra = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOO:_make_datagram_transport", names,
                                     &socket, &protocol, &address, &waiter, &extra))
        return NULL;
    int fd = pyhoop_transport_claim(loop, socket);
    int has_address = fd < 0 ? -1 : PyObject_IsTrue(address);
    if (has_address < 0)
        return NULL;
    int family = AF_UNSPEC;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    bool is_foreign = !knows_family(family) || (PyObject *)Py_TYPE(socket) != state->socket_class;
    extra = is_foreign ? foreign_extra(state, socket, extra) : Py_NewRef(extra);
    if (extra == NULL)
        return NULL;

    DatagramObject *self = (DatagramObject *)pyhoop_transport_make(
        state->datagram_transport_type, &watch_type, loop, fd, socket, protocol, NULL, NULL,
        waiter == Py_None ? NULL : waiter);
    if (self != NULL) {
        self->address = has_address ? Py_NewRef(address) : NULL;
        self->max_size = PYHOOP_SCRATCH_SIZE;
        self->family = family;
        self->turn.type = &turn_type.core;
        self->is_foreign = is_foreign;
        if (pyhoop_transport_give_extra(&self->base, extra) < 0 || note_peer(self) < 0)
            Py_CLEAR(self);
    }
    Py_DECREF(extra);
    return (PyObject *)self;
}

/* ---- the type ---- */

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    PyObject *address = ((DatagramObject *)op)->address;
    return Py_NewRef(address != NULL ? address : Py_None);
}

static int datagram_traverse(PyObject *op, visitproc visit, void *arg) {
    DatagramObject *self = (DatagramObject *)op;
    Py_VISIT(self->address);
    Py_VISIT(self->from.address);
    Py_VISIT(self->to.address);
    for (size_t i = 0; i < self->base.out.count; i++)
        Py_VISIT(pyhoop_outqueue_chunk(&self->base.out, i));
    return pyhoop_transport_traverse(op, visit, arg);
}

static int datagram_clear(PyObject *op) {
    DatagramObject *self = (DatagramObject *)op;
    Py_CLEAR(self->address);
    Py_CLEAR(self->from.address);
    Py_CLEAR(self->to.address);
    pyhoop_outqueue_clear(&self->base.out);
    return pyhoop_transport_clear(op);
}

static PyMethodDef datagram_methods[] = {
    {"sendto", (PyCFunction)(void (*)(void))pyhoop_datagram_sendto, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("sendto($self, data, addr=None)\n--\n\nSend one datagram, of no bytes too. "
               "asyncio.DatagramTransport.\n\n"
               "Does not wait: what the kernel does not take is kept. An error goes to\n"
               "error_received().")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef datagram_getset[] = {
    {"_address", get_address, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef datagram_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(DatagramObject, base.dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(DatagramObject, base.weakrefs), Py_READONLY,
     NULL},
    {"max_size", Py_T_PYSSIZET, offsetof(DatagramObject, max_size), 0,
     PyDoc_STR("Bytes of a datagram that are received, at most 256 KiB; the rest is cut off.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, PyDoc_STR("A socket for datagrams, UDP or unix. asyncio.DatagramTransport.")},
    {Py_tp_dealloc, pyhoop_transport_dealloc},
    {Py_tp_finalize, pyhoop_transport_finalize},
    {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},
    {Py_tp_repr, pyhoop_transport_repr},
    {Py_tp_methods, datagram_methods},
    {Py_tp_getset, datagram_getset},
    {Py_tp_members, datagram_members},
    {0, NULL},
};

PyType_Spec pyhoop_datagram_transport_spec = {
    .name = "hoop._hoop.DatagramTransport",
    .basicsize = sizeof(DatagramObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_slots,
};
