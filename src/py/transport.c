/* SPDX-License-Identifier: MIT */
#include "py/transport.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core/sys.h"
#include "py/pipe.h"
#include "py/readers.h"
#include "py/stream.h"

enum { HIGH_WATER = 64 * 1024, LOW_WATER = 16 * 1024 };

static int item_run(struct hoop_item *item);
static void item_drop(struct hoop_item *item);

static int item_traverse(struct hoop_item *item, visitproc visit, void *arg);

static const struct pyhoop_item_type item_type = {{item_run, item_drop}, item_traverse};

static int on_events(struct hoop_watch *watch, uint32_t events);

static const struct pyhoop_watch_type watch_type = {{on_events, pyhoop_transport_forget},
                                                    pyhoop_transport_traverse_watch};

static TransportObject *of_item(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, TransportObject, item);
}

TransportObject *pyhoop_transport_of_fd(LoopObject *loop, int fd) {
    struct hoop_watch *watch = hoop_watches_find(&loop->core.watches, fd);
    bool is_transport = watch != NULL && watch->type->forget == pyhoop_transport_forget;
    return is_transport ? pyhoop_transport_of_watch(watch) : NULL;
}

/* No more events; gives up the loop's reference, so the caller has one. */
void pyhoop_transport_stop_watching(TransportObject *self) {
    hoop_watches_stop(&self->loop->core.watches, &self->watch);
    if (self->flags & PYHOOP_TRANSPORT_HELD) {
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_HELD;
        Py_DECREF(self);
    }
}

/* The descriptor's number was reused behind the transport's back. */
void pyhoop_transport_forget(struct hoop_watch *watch) {
    TransportObject *self = pyhoop_transport_of_watch(watch);
    Py_INCREF(self);
    pyhoop_transport_stop_watching(self);
    Py_DECREF(self);
}

struct pyhoop_transport_rare *pyhoop_transport_rare(TransportObject *self) {
    if (self->rare == NULL) {
        self->rare = PyMem_Calloc(1, sizeof(*self->rare));
        if (self->rare == NULL)
            PyErr_NoMemory();
    }
    return self->rare;
}

/* ---- calls into the protocol ---- */

/* Enters `context`, or a copy if it is entered already (a nested loop). The one
 * entered, new reference, or NULL. */
static PyObject *enter(PyObject *context) {
    if (PyContext_Enter(context) == 0)
        return Py_NewRef(context);
    PyErr_Clear(); /* RuntimeError: cannot enter context */
    PyObject *copy = PyContext_Copy(context);
    if (copy != NULL && PyContext_Enter(copy) < 0)
        Py_CLEAR(copy);
    return copy;
}

static int report_slow_call(TransportObject *self, PyObject *method, int64_t start_ns) {
    LoopObject *loop = self->loop;
    if (loop == NULL) /* the call closed the connection for good */
        return 0;
    double seconds = (double)(hoop_loop_now_ns(&loop->core) - start_ns) / 1e9;
    PyObject *result = PyObject_CallFunction(loop->state->cold_report_slow_call, "OOOd", loop, self,
                                             method, seconds);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `args` has room for the protocol in front. */
static PyObject *call(TransportObject *self, PyObject *method, PyObject **args, size_t count) {
    PyObject *protocol = self->protocol;
    if (protocol == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "transport has no protocol any more");
        return NULL;
    }
    bool is_debug = self->loop->is_debug;
    int64_t start_ns = is_debug ? hoop_loop_now_ns(&self->loop->core) : 0;
    PyObject *context = enter(self->context);
    if (context == NULL)
        return NULL;
    Py_INCREF(protocol);
    args[0] = protocol;
    PyObject *result = PyObject_VectorcallMethod(method, args, count, NULL);
    Py_DECREF(protocol);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    Py_DECREF(context);
    if (is_debug && result != NULL && report_slow_call(self, method, start_ns) < 0)
        Py_CLEAR(result);
    return result;
}

PyObject *pyhoop_transport_call(TransportObject *self, PyObject *method, PyObject *argument) {
    PyObject *args[] = {NULL, argument};
    return call(self, method, args, argument == NULL ? 1 : 2);
}

PyObject *pyhoop_transport_call_with_two(TransportObject *self, PyObject *method, PyObject *first,
                                         PyObject *second) {
    PyObject *args[] = {NULL, first, second};
    return call(self, method, args, 3);
}

int pyhoop_transport_report(TransportObject *self, const char *message) {
    if (pyhoop_error_leaves_loop())
        return -1;
    if (self->loop == NULL) { /* a nested loop has finished the connection meanwhile */
        PyErr_WriteUnraisable((PyObject *)self);
        return 0;
    }
    return pyhoop_loop_report(self->loop, message, "transport", (PyObject *)self, "protocol",
                              self->protocol);
}

/* Whether an error is the other end's doing, and no bug to be reported. */
static bool is_quiet(TransportObject *self, PyObject *exception) {
    if (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_OSError))
        return false;
    return !(self->flags & PYHOOP_TRANSPORT_READ_PIPE) || pyhoop_pipe_is_hang_up(exception);
}

int pyhoop_transport_log_debug(TransportObject *self, const char *message) {
    if (!self->loop->is_debug)
        return 0;
    PyObject *result =
        PyObject_CallFunction(self->loop->state->cold_log_debug, "sO", message, self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int pyhoop_transport_fatal(TransportObject *self, const char *message) {
    if (pyhoop_error_leaves_loop())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    int rc = 0;
    LoopObject *loop = self->loop;
    if (loop != NULL && !is_quiet(self, exception)) {
        PyErr_SetRaisedException(Py_NewRef(exception));
        rc = pyhoop_loop_report(loop, message, "transport", (PyObject *)self, "protocol",
                                self->protocol);
    } else if (loop != NULL && loop->is_debug) {
        PyObject *result =
            PyObject_CallFunction(loop->state->cold_log_error, "OsO", self, message, exception);
        Py_XDECREF(result);
        rc = result == NULL ? -1 : 0;
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (pyhoop_transport_force_close(self, exception) < 0)
        rc = -1;
    Py_DECREF(exception);
    if (raised != NULL)
        PyErr_SetRaisedException(raised);
    return rc;
}

/* ---- events ---- */

int pyhoop_transport_update(TransportObject *self) {
    if (self->watch.fd < 0)
        return 0;
    const uint32_t stops_reading = PYHOOP_TRANSPORT_CLOSING | PYHOOP_TRANSPORT_PAUSED |
                                   PYHOOP_TRANSPORT_READ_ENDED | PYHOOP_TRANSPORT_DEAF;
    uint32_t wanted = 0;
    if (self->flags & PYHOOP_TRANSPORT_STARTED && !(self->flags & stops_reading))
        wanted |= HOOP_POLL_READ;
    if (self->flags & PYHOOP_TRANSPORT_BLOCKED)
        wanted |= HOOP_POLL_WRITE;
    int rc = hoop_watches_want(&self->loop->core.watches, &self->watch, wanted);
    bool is_held = self->flags & PYHOOP_TRANSPORT_HELD;
    if (rc == 0 && is_held != (wanted != 0)) {
        self->flags ^= PYHOOP_TRANSPORT_HELD;
        if (is_held)
            Py_DECREF(self);
        else
            Py_INCREF(self);
    }
    if (rc == 0)
        return 0;
    pyhoop_raise_errno(rc);
    return pyhoop_transport_fatal(self, "Fatal error on transport");
}

static int on_events(struct hoop_watch *watch, uint32_t events) {
    TransportObject *self = pyhoop_transport_of_watch(watch);
    Py_INCREF(self);
    int rc = 0;
    if (events & HOOP_POLL_READ)
        rc = self->flags & PYHOOP_TRANSPORT_WRITE_PIPE ? pyhoop_pipe_hung_up(self)
                                                       : pyhoop_transport_read(self);
    if (rc == 0 && events & HOOP_POLL_WRITE && self->flags & PYHOOP_TRANSPORT_BLOCKED)
        rc = pyhoop_transport_write_ready(self);
    Py_DECREF(self);
    return rc;
}

/* ---- start ---- */

static int wake_waiter(TransportObject *self) {
    PyObject *waiter = self->rare == NULL ? NULL : self->rare->waiter;
    if (waiter == NULL)
        return 0;
    self->rare->waiter = NULL;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *done = state == NULL ? NULL : PyObject_CallMethodNoArgs(waiter, state->str_done);
    int rc = done == NULL ? -1 : 0;
    if (done == Py_False) {
        PyObject *result = PyObject_CallMethodOneArg(waiter, state->str_set_result, Py_None);
        Py_XDECREF(result);
        rc = result == NULL ? -1 : 0;
    }
    Py_XDECREF(done);
    Py_DECREF(waiter);
    return rc;
}

/* The second half, a round after the waiter was woken: who made the connection
 * runs before its data comes. */
static int start_reading(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_LOST)
        return 0;
    self->flags |= PYHOOP_TRANSPORT_STARTED;
    return pyhoop_transport_update(self);
}

/* Has `step` called in the next round, once however often it is asked for. */
static int queue_step(TransportObject *self) {
    if (self->flags & (PYHOOP_TRANSPORT_LOST | PYHOOP_TRANSPORT_QUEUED))
        return 0;
    if (pyhoop_loop_check_open(self->loop) < 0)
        return -1;
    Py_INCREF(self);
    if (hoop_loop_give(&self->loop->core, &self->item) < 0) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return -1;
    }
    self->flags |= PYHOOP_TRANSPORT_QUEUED;
    return 0;
}

static int start(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_LOST)
        return 0;
    self->flags |= PYHOOP_TRANSPORT_MADE;
    PyObject *result = NULL;
    if (pyhoop_stream_attach(self) == 0)
        result =
            pyhoop_transport_call(self, self->loop->state->str_connection_made, (PyObject *)self);
    int rc = 0;
    if (result == NULL)
        rc = pyhoop_transport_report(self, "Exception in callback protocol.connection_made()");
    Py_XDECREF(result);
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    bool has_waiter = self->rare != NULL && self->rare->waiter != NULL;
    if (wake_waiter(self) < 0 || (has_waiter ? queue_step(self) : start_reading(self)) < 0)
        rc = -1;
    if (raised != NULL) {
        PyErr_Clear(); /* the first exception counts */
        PyErr_SetRaisedException(raised);
    }
    return rc;
}

static int attach_to_server(TransportObject *self, PyObject *server) {
    struct pyhoop_state *state = self->loop->state;
    PyObject *result = state->server_attach_takes_transport
                           ? PyObject_CallMethodOneArg(server, state->str__attach, (PyObject *)self)
                           : PyObject_CallMethodNoArgs(server, state->str__attach);
    if (result == NULL)
        return -1;
    Py_DECREF(result);
    self->server = Py_NewRef(server);
    self->flags |= PYHOOP_TRANSPORT_ATTACHED;
    return 0;
}

static void detach_from_server(TransportObject *self, struct pyhoop_state *state) {
    PyObject *server = self->server;
    if (server == NULL)
        return;
    self->server = NULL;
    PyObject *result = NULL;
    if (self->flags & PYHOOP_TRANSPORT_ATTACHED) {
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_ATTACHED;
        result = state->server_attach_takes_transport
                     ? PyObject_CallMethodOneArg(server, state->str__detach, (PyObject *)self)
                     : PyObject_CallMethodNoArgs(server, state->str__detach);
        if (result == NULL)
            PyErr_WriteUnraisable(server);
    }
    Py_XDECREF(result);
    Py_DECREF(server);
}

int pyhoop_transport_use_protocol(TransportObject *self, PyObject *protocol,
                                  struct pyhoop_state *state) {
    int is_buffered = PyObject_IsInstance(protocol, state->asyncio_buffered_protocol);
    if (is_buffered < 0)
        return -1;
    if (is_buffered)
        self->flags |= PYHOOP_TRANSPORT_BUFFERED;
    else
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_BUFFERED;
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    return 0;
}

/* The transport will not take part: the caller keeps the descriptor. */
static void abandon(TransportObject *self) {
    PyObject *exception = PyErr_GetRaisedException();
    hoop_watches_stop(&self->loop->core.watches, &self->watch);
    detach_from_server(self, self->loop->state);
    self->fd = -1;
    Py_CLEAR(self->socket);
    Py_DECREF(self);
    PyErr_SetRaisedException(exception);
}

TransportObject *pyhoop_transport_make(PyTypeObject *type,
                                       const struct pyhoop_watch_type *type_of_watch,
                                       LoopObject *loop, int fd, PyObject *socket,
                                       PyObject *protocol, PyObject *context, PyObject *server,
                                       PyObject *waiter) {
    TransportObject *self = (TransportObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    self->fd = fd;
    self->socket = Py_XNewRef(socket);
    self->item.type = &item_type.core;
    self->flush.run = pyhoop_transport_flush_item;
    self->high_water = HIGH_WATER;
    self->low_water = LOW_WATER;
    pyhoop_outqueue_init(&self->out);
    hoop_watch_init(&self->watch, &type_of_watch->core);
    self->context = context != NULL ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (self->context == NULL || pyhoop_transport_use_protocol(self, protocol, loop->state) < 0)
        goto error;
    if (waiter != NULL) {
        struct pyhoop_transport_rare *rare = pyhoop_transport_rare(self);
        if (rare == NULL)
            goto error;
        rare->waiter = Py_NewRef(waiter);
    }
    hoop_watches_forget(&loop->core.watches, fd);
    int rc = hoop_watches_start(&loop->core.watches, &self->watch, fd, 0);
    if (rc < 0) {
        pyhoop_raise_errno(rc);
        goto error;
    }
    if (server != NULL && attach_to_server(self, server) < 0)
        goto error;
    if (queue_step(self) < 0)
        goto error;
    return self;

error:
    abandon(self);
    return NULL;
}

TransportObject *pyhoop_transport_new_pipe(LoopObject *loop, PyTypeObject *type, uint32_t flags,
                                           int fd, PyObject *file, PyObject *protocol,
                                           PyObject *waiter) {
    TransportObject *self =
        pyhoop_transport_make(type, &watch_type, loop, fd, file, protocol, NULL, NULL, waiter);
    if (self != NULL)
        self->flags |= flags;
    return self;
}

TransportObject *pyhoop_transport_new(LoopObject *loop, int fd, PyObject *socket,
                                      PyObject *protocol, PyObject *context, PyObject *server,
                                      PyObject *waiter, const struct sockaddr *peer,
                                      socklen_t peer_length) {
    TransportObject *self = pyhoop_transport_make(loop->state->transport_type, &watch_type, loop,
                                                  fd, socket, protocol, context, server, waiter);
    if (self != NULL && peer_length > 0 && peer_length <= sizeof(self->peer)) {
        memcpy(&self->peer, peer, peer_length);
        self->peer_length = peer_length;
    }
    return self;
}

int pyhoop_transport_claim(LoopObject *loop, PyObject *socket) {
    if (pyhoop_loop_check_open(loop) < 0)
        return -1;
    PyObject *free = pyhoop_loop_ensure_fd_no_transport((PyObject *)loop, socket);
    if (free == NULL)
        return -1;
    Py_DECREF(free);
    return pyhoop_fd_of(loop->state, socket);
}

int pyhoop_transport_give_extra(TransportObject *self, PyObject *extra) {
    if (extra == Py_None)
        return 0;
    self->extra = PyDict_Copy(extra);
    return self->extra == NULL ? -1 : 0;
}

/* asyncio looks at the socket's protocol number and misses sockets made with 0. */
static void set_nodelay(int fd) {
    /* Fails on unix sockets, which have nothing to delay. */
    (void)hoop_sys_set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

PyObject *pyhoop_loop_make_socket_transport(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"sock", "protocol", "waiter", "extra", "server", "context", NULL};
    LoopObject *loop = (LoopObject *)op;
    PyObject *socket, *protocol, *waiter = Py_None, *extra = Py_None, *server = Py_None,
                                 *context = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$OOO:_make_socket_transport", names,
                                     &socket, &protocol, &waiter, &extra, &server, &context))
        return NULL;
    PyObject *connection_made = PyObject_GetAttr(protocol, loop->state->str_connection_made);
    if (connection_made == NULL) /* no protocol: who connects hears of it, as in asyncio */
        return NULL;
    Py_DECREF(connection_made);
    int fd = pyhoop_transport_claim(loop, socket);
    if (fd < 0)
        return NULL;
    set_nodelay(fd);
    struct sockaddr_in6 peer;
    socklen_t peer_length = sizeof(peer);
    if (hoop_sys_peer_name(fd, (struct sockaddr *)&peer, &peer_length) < 0 ||
        peer.sin6_family == AF_UNIX)
        peer_length = 0;
    TransportObject *self =
        pyhoop_transport_new(loop, fd, socket, protocol, context == Py_None ? NULL : context,
                             server == Py_None ? NULL : server, waiter == Py_None ? NULL : waiter,
                             (struct sockaddr *)&peer, peer_length);
    if (self != NULL && pyhoop_transport_give_extra(self, extra) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* ---- closing ---- */

static void close_descriptor(TransportObject *self, struct pyhoop_state *state) {
    int fd = self->fd;
    self->fd = -1;
    if (fd < 0)
        return;
    if (self->socket == NULL || self->flags & PYHOOP_TRANSPORT_OWN_FD)
        (void)hoop_sys_close(fd);
    if (self->socket == NULL)
        return;
    PyObject *result = PyObject_CallMethodNoArgs(self->socket, state->str_close);
    if (result == NULL)
        PyErr_WriteUnraisable(self->socket);
    Py_XDECREF(result);
}

void pyhoop_transport_let_go(TransportObject *self) {
    int fd = self->fd;
    self->fd = -1;
    Py_INCREF(self);
    if (self->watch.fd >= 0)
        pyhoop_transport_stop_watching(self);
    if (fd >= 0 && self->flags & PYHOOP_TRANSPORT_OWN_FD)
        (void)hoop_sys_close(fd);
    Py_CLEAR(self->socket);
    Py_DECREF(self);
}

static void fail_empty_waiter(TransportObject *self, struct pyhoop_state *state) {
    PyObject *waiter = self->rare == NULL ? NULL : Py_XNewRef(self->rare->empty_waiter);
    if (waiter == NULL)
        return;
    PyObject *done = PyObject_CallMethodNoArgs(waiter, state->str_done);
    PyObject *result = Py_None;
    if (done == Py_False) {
        PyObject *error =
            PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
        result = error == NULL ? NULL
                               : PyObject_CallMethodOneArg(waiter, state->str_set_exception, error);
        Py_XDECREF(error);
    }
    if (done == NULL || result == NULL)
        PyErr_WriteUnraisable(waiter);
    if (result != Py_None)
        Py_XDECREF(result);
    Py_XDECREF(done);
    Py_DECREF(waiter);
}

/* After connection_lost: everything the connection had is given back. */
static void finish(TransportObject *self) {
    struct pyhoop_state *state = self->loop->state;
    self->flags |= PYHOOP_TRANSPORT_LOST;
    if (Py_REFCNT(self) > 1 && self->fd >= 0 && !pyhoop_transport_is_pipe(self) &&
        pyhoop_transport_remember_names(self) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    pyhoop_transport_stop_watching(self); /* the item still has a reference */
    pyhoop_stream_detach(self);
    close_descriptor(self, state);
    pyhoop_outqueue_clear(&self->out);
    fail_empty_waiter(self, state);
    detach_from_server(self, state);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->context);
    Py_CLEAR(self->loop);
}

static int lose_connection(TransportObject *self) {
    PyObject *exception = self->rare == NULL ? NULL : self->rare->lost_exception;
    if (exception != NULL)
        self->rare->lost_exception = NULL;
    PyObject *result = pyhoop_transport_call(self, self->loop->state->str_connection_lost,
                                             exception != NULL ? exception : Py_None);
    Py_XDECREF(exception);
    int rc = 0;
    if (result == NULL)
        rc = pyhoop_transport_report(self, "Exception in callback protocol.connection_lost()");
    Py_XDECREF(result);
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    finish(self);
    if (raised != NULL)
        PyErr_SetRaisedException(raised);
    return rc;
}

/* What the transport's item does: connection_made, then reading (a round later
 * when somebody waits for the connection), in the end connection_lost. */
static int step(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_LOST)
        return 0;
    if (!(self->flags & PYHOOP_TRANSPORT_MADE))
        return start(self);
    return self->flags & PYHOOP_TRANSPORT_LOSING ? lose_connection(self) : start_reading(self);
}

static int item_run(struct hoop_item *item) {
    TransportObject *self = of_item(item);
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_QUEUED;
    int rc = step(self);
    if (self->flags & PYHOOP_TRANSPORT_LOSING) { /* it was lost while it waited to start */
        PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
        if (queue_step(self) < 0)
            rc = -1;
        if (raised != NULL)
            PyErr_SetRaisedException(raised);
    }
    Py_DECREF(self);
    return rc;
}

static void item_drop(struct hoop_item *item) {
    Py_DECREF(of_item(item));
}

/* The loop is closed: nobody is told any more, but the descriptor is not leaked. */
static int lose_without_loop(TransportObject *self) {
    close_descriptor(self, self->loop->state);
    detach_from_server(self, self->loop->state);
    return pyhoop_loop_check_open(self->loop);
}

int pyhoop_transport_lose(TransportObject *self, PyObject *exception) {
    self->conn_lost++;
    if (self->loop->is_closed)
        return lose_without_loop(self);
    if (exception != NULL) {
        struct pyhoop_transport_rare *rare = pyhoop_transport_rare(self);
        if (rare != NULL)
            Py_XSETREF(rare->lost_exception, Py_NewRef(exception));
        else
            PyErr_Clear(); /* MemoryError: connection_lost(None) then */
    }
    self->flags |= PYHOOP_TRANSPORT_LOSING;
    if (queue_step(self) == 0)
        return 0;
    PyErr_Clear(); /* no memory to queue it: now */
    return lose_connection(self);
}

int pyhoop_transport_force_close(TransportObject *self, PyObject *exception) {
    if (self->conn_lost > 0 || self->loop == NULL)
        return 0;
    pyhoop_outqueue_clear(&self->out);
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_BLOCKED;
    self->flags |= PYHOOP_TRANSPORT_CLOSING;
    if (pyhoop_transport_update(self) < 0)
        return -1;
    return pyhoop_transport_lose(self, exception);
}

int pyhoop_transport_close(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_CLOSING || self->loop == NULL)
        return 0;
    self->flags |= PYHOOP_TRANSPORT_CLOSING;
    if (pyhoop_transport_update(self) < 0 || pyhoop_transport_flush_deferred(self) < 0)
        return -1;
    if (self->out.count == 0 && self->conn_lost == 0) /* a datagram may be of no bytes */
        return pyhoop_transport_lose(self, NULL);
    return 0;
}

/* ---- memory ---- */

int pyhoop_transport_traverse(PyObject *op, visitproc visit, void *arg) {
    TransportObject *self = (TransportObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->server);
    Py_VISIT(self->socket);
    Py_VISIT(self->stream);
    if (self->rare != NULL) {
        Py_VISIT(self->rare->waiter);
        Py_VISIT(self->rare->empty_waiter);
        Py_VISIT(self->rare->lost_exception);
    }
    return 0;
}

static int item_traverse(struct hoop_item *item, visitproc visit, void *arg) {
    Py_VISIT(of_item(item));
    return 0;
}

int pyhoop_transport_traverse_watch(struct hoop_watch *watch, visitproc visit, void *arg) {
    if (pyhoop_transport_of_watch(watch)->flags & PYHOOP_TRANSPORT_HELD)
        Py_VISIT(pyhoop_transport_of_watch(watch));
    return 0;
}

int pyhoop_transport_clear(PyObject *op) {
    TransportObject *self = (TransportObject *)op;
    if (self->watch.fd >= 0)
        pyhoop_transport_stop_watching(self);
    self->flags |= PYHOOP_TRANSPORT_CLOSING; /* for who still calls it: as after a loss */
    self->conn_lost++;
    pyhoop_stream_detach(self);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->context);
    Py_CLEAR(self->server);
    Py_CLEAR(self->socket);
    if (self->rare != NULL) {
        Py_CLEAR(self->rare->waiter);
        Py_CLEAR(self->rare->empty_waiter);
        Py_CLEAR(self->rare->lost_exception);
    }
    Py_CLEAR(self->loop);
    return 0;
}

/* asyncio's __del__: nobody closed it and nobody can any more. */
void pyhoop_transport_finalize(PyObject *op) {
    TransportObject *self = (TransportObject *)op;
    if (self->fd < 0)
        return;
    PyObject *exception = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0)
        PyErr_WriteUnraisable(op);
    if (self->watch.fd >= 0)
        pyhoop_transport_stop_watching(self);
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state != NULL) {
        close_descriptor(self, state);
        detach_from_server(self, state);
    } else { /* the interpreter is taking the module apart */
        PyErr_Clear();
        if (self->socket == NULL || self->flags & PYHOOP_TRANSPORT_OWN_FD)
            (void)hoop_sys_close(self->fd);
        self->fd = -1;
    }
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
}

void pyhoop_transport_dealloc(PyObject *op) {
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return; /* somebody holds it again */
    TransportObject *self = (TransportObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    (void)type->tp_clear(op);
    pyhoop_outqueue_clear(&self->out);
    PyMem_Free(self->rare);
    type->tp_free(op);
    Py_DECREF(type);
}
