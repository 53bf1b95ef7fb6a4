/* SPDX-License-Identifier: MIT */
#include "py/transport.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core/sys.h"
#include "py/readers.h"
#include "py/stream.h"

enum { HIGH_WATER = 64 * 1024, LOW_WATER = 16 * 1024 };

static int item_run(struct hoop_item *item);
static void item_drop(struct hoop_item *item);

static int item_traverse(struct hoop_item *item, visitproc visit, void *arg);

static const struct pyhoop_item_type item_type = {{item_run, item_drop}, item_traverse};

static int on_events(struct hoop_watch *watch, uint32_t events);
static void forget(struct hoop_watch *watch);
static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg);

static const struct pyhoop_watch_type watch_type = {{on_events, forget}, watch_traverse};

static TransportObject *of_item(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, TransportObject, item);
}

static TransportObject *of_watch(struct hoop_watch *watch) {
    return HOOP_CONTAINER_OF(watch, TransportObject, watch);
}

TransportObject *pyhoop_transport_of_fd(LoopObject *loop, int fd) {
    struct hoop_watch *watch = hoop_watches_find(&loop->core.watches, fd);
    return watch != NULL && watch->type == &watch_type.core ? of_watch(watch) : NULL;
}

/* No more events; gives up the loop's reference, so the caller has one. */
static void stop_watching(TransportObject *self) {
    hoop_watches_stop(&self->loop->core.watches, &self->watch);
    if (self->flags & PYHOOP_TRANSPORT_HELD) {
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_HELD;
        Py_DECREF(self);
    }
}

/* The descriptor's number was reused behind the transport's back. */
static void forget(struct hoop_watch *watch) {
    TransportObject *self = of_watch(watch);
    Py_INCREF(self);
    stop_watching(self);
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

PyObject *pyhoop_transport_call(TransportObject *self, PyObject *method, PyObject *argument) {
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
    PyObject *args[] = {protocol, argument};
    PyObject *result = PyObject_VectorcallMethod(method, args, argument == NULL ? 1 : 2, NULL);
    Py_DECREF(protocol);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    Py_DECREF(context);
    if (is_debug && result != NULL && report_slow_call(self, method, start_ns) < 0)
        Py_CLEAR(result);
    return result;
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

int pyhoop_transport_fatal(TransportObject *self, const char *message) {
    if (pyhoop_error_leaves_loop())
        return -1;
    PyObject *exception = PyErr_GetRaisedException();
    int rc = 0;
    LoopObject *loop = self->loop;
    if (loop != NULL && (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_OSError))) {
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
    const uint32_t stops_reading =
        PYHOOP_TRANSPORT_CLOSING | PYHOOP_TRANSPORT_PAUSED | PYHOOP_TRANSPORT_READ_ENDED;
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
    TransportObject *self = of_watch(watch);
    Py_INCREF(self);
    int rc = 0;
    if (events & HOOP_POLL_READ)
        rc = pyhoop_transport_read(self);
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

static int set_protocol(TransportObject *self, PyObject *protocol, struct pyhoop_state *state) {
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

TransportObject *pyhoop_transport_new(LoopObject *loop, int fd, PyObject *socket,
                                      PyObject *protocol, PyObject *context, PyObject *server,
                                      PyObject *waiter, const struct sockaddr *peer,
                                      socklen_t peer_length) {
    PyTypeObject *type = loop->state->transport_type;
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
    hoop_watch_init(&self->watch, &watch_type.core);
    if (peer_length > 0 && peer_length <= sizeof(self->peer)) {
        memcpy(&self->peer, peer, peer_length);
        self->peer_length = peer_length;
    }
    self->context = context != NULL ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (self->context == NULL || set_protocol(self, protocol, loop->state) < 0)
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
    if (pyhoop_loop_check_open(loop) < 0)
        return NULL;
    PyObject *free = pyhoop_loop_ensure_fd_no_transport(op, socket);
    if (free == NULL)
        return NULL;
    Py_DECREF(free);
    int fd = pyhoop_fd_of(loop->state, socket);
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
    if (self != NULL && extra != Py_None) {
        self->extra = PyDict_Copy(extra);
        if (self->extra == NULL)
            Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* ---- closing ---- */

static void close_descriptor(TransportObject *self, struct pyhoop_state *state) {
    int fd = self->fd;
    self->fd = -1;
    if (fd < 0)
        return;
    if (self->socket == NULL) {
        (void)hoop_sys_close(fd);
        return;
    }
    PyObject *result = PyObject_CallMethodNoArgs(self->socket, state->str_close);
    if (result == NULL)
        PyErr_WriteUnraisable(self->socket);
    Py_XDECREF(result);
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
    if (Py_REFCNT(self) > 1 && self->fd >= 0 && pyhoop_transport_remember_names(self) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    stop_watching(self); /* the item still has a reference */
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
    if (self->out.size == 0 && self->conn_lost == 0)
        return pyhoop_transport_lose(self, NULL);
    return 0;
}

static PyObject *transport_close(PyObject *op, PyObject *unused) {
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

/* ---- the other methods ---- */

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

static int log_debug(TransportObject *self, const char *message) {
    if (!self->loop->is_debug)
        return 0;
    PyObject *result =
        PyObject_CallFunction(self->loop->state->cold_log_debug, "sO", message, self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *transport_pause_reading(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (!is_reading(self))
        Py_RETURN_NONE;
    self->flags |= PYHOOP_TRANSPORT_PAUSED;
    if (pyhoop_transport_update(self) < 0 || log_debug(self, "%r pauses reading") < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *transport_resume_reading(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->flags & PYHOOP_TRANSPORT_CLOSING || !(self->flags & PYHOOP_TRANSPORT_PAUSED))
        Py_RETURN_NONE;
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_PAUSED;
    if (pyhoop_transport_update(self) < 0 || log_debug(self, "%r resumes reading") < 0)
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
    if (state == NULL || set_protocol(self, protocol, state) < 0)
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

static PyObject *transport_can_write_eof(PyObject *op, PyObject *unused) {
    (void)op;
    (void)unused;
    Py_RETURN_TRUE;
}

/* For sendfile: while asyncio's code drives the descriptor itself, the loop does not watch it. */
static PyObject *transport_lend_descriptor(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->watch.fd >= 0)
        stop_watching(self);
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

static PyObject *transport_repr(PyObject *op) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state == NULL)
        return NULL;
    return PyObject_CallOneArg(state->cold_describe_transport, op);
}

static PyObject *get_sock(PyObject *op, void *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->flags & PYHOOP_TRANSPORT_LOST)
        Py_RETURN_NONE;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    PyObject *socket = state == NULL ? NULL : pyhoop_transport_socket(self, state);
    return socket == NULL && PyErr_Occurred() ? NULL : or_none(socket);
}

static PyObject *get_sock_fd(PyObject *op, void *unused) {
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

/* ---- memory ---- */

static int transport_traverse(PyObject *op, visitproc visit, void *arg) {
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

static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg) {
    if (of_watch(watch)->flags & PYHOOP_TRANSPORT_HELD)
        Py_VISIT(of_watch(watch));
    return 0;
}

static int transport_clear(PyObject *op) {
    TransportObject *self = (TransportObject *)op;
    if (self->watch.fd >= 0)
        stop_watching(self);
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
static void transport_finalize(PyObject *op) {
    TransportObject *self = (TransportObject *)op;
    if (self->fd < 0)
        return;
    PyObject *exception = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0)
        PyErr_WriteUnraisable(op);
    if (self->watch.fd >= 0)
        stop_watching(self);
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state != NULL) {
        close_descriptor(self, state);
        detach_from_server(self, state);
    } else { /* the interpreter is taking the module apart */
        PyErr_Clear();
        if (self->socket == NULL)
            (void)hoop_sys_close(self->fd);
        self->fd = -1;
    }
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
}

static void transport_dealloc(PyObject *op) {
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return; /* somebody holds it again */
    TransportObject *self = (TransportObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    (void)transport_clear(op);
    pyhoop_outqueue_clear(&self->out);
    PyMem_Free(self->rare);
    type->tp_free(op);
    Py_DECREF(type);
}

#define KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef transport_methods[] = {
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
    {"can_write_eof", transport_can_write_eof, METH_NOARGS,
     PyDoc_STR("can_write_eof($self)\n--\n\nTrue.")},
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
    {"pause_reading", transport_pause_reading, METH_NOARGS,
     PyDoc_STR("pause_reading($self)\n--\n\nStop data_received() until resume_reading(). "
               "asyncio.ReadTransport.")},
    {"resume_reading", transport_resume_reading, METH_NOARGS,
     PyDoc_STR("resume_reading($self)\n--\n\nUndo pause_reading(). asyncio.ReadTransport.")},
    {"is_reading", transport_is_reading, METH_NOARGS,
     PyDoc_STR("is_reading($self)\n--\n\nNeither paused nor closing. asyncio.ReadTransport.")},
    {"close", transport_close, METH_NOARGS,
     PyDoc_STR("close($self)\n--\n\nClose when everything is sent; connection_lost(None) follows. "
               "asyncio.BaseTransport.")},
    {"abort", transport_abort, METH_NOARGS,
     PyDoc_STR(
         "abort($self)\n--\n\nClose at once and drop what is unsent. asyncio.WriteTransport.")},
    {"is_closing", transport_is_closing, METH_NOARGS,
     PyDoc_STR("is_closing($self)\n--\n\nClosed or about to be. asyncio.BaseTransport.")},
    {"set_protocol", KEYWORDS(transport_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
         "set_protocol($self, protocol)\n--\n\nReplace the protocol. asyncio.BaseTransport.")},
    {"get_protocol", transport_get_protocol, METH_NOARGS,
     PyDoc_STR("get_protocol($self)\n--\n\nThe protocol; None after connection_lost. "
               "asyncio.BaseTransport.")},
    {"get_extra_info", KEYWORDS(pyhoop_transport_get_extra_info), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("get_extra_info($self, name, default=None)\n--\n\n'socket', 'sockname', 'peername'. "
               "asyncio.BaseTransport.")},
    {"_force_close", transport_force_close, METH_O,
     PyDoc_STR("_force_close($self, exception, /)\n--\n\n")},
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

#define FLAG(name, flag) {name, get_flag, NULL, NULL, (void *)(uintptr_t)(flag)}

static PyGetSetDef transport_getset[] = {
    {"_extra", pyhoop_transport_get_extra, NULL, NULL, NULL},
    {"_sock", get_sock, NULL, NULL, NULL},
    {"_sock_fd", get_sock_fd, NULL, NULL, NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_protocol", get_protocol, NULL, NULL, NULL},
    {"_server", get_server, NULL, NULL, NULL},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_queued_size", get_queued, NULL, NULL, NULL},
    {"_polled_events", get_polled, NULL, NULL, NULL},
    FLAG("_closing", PYHOOP_TRANSPORT_CLOSING),
    FLAG("_eof", PYHOOP_TRANSPORT_EOF_WRITTEN),
    FLAG("_paused", PYHOOP_TRANSPORT_PAUSED),
    FLAG("_protocol_paused", PYHOOP_TRANSPORT_PROTOCOL_PAUSED),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(TransportObject, dict), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(TransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, PyDoc_STR("A connected stream socket, TCP or unix. asyncio.Transport.")},
    {Py_tp_dealloc, transport_dealloc},
    {Py_tp_finalize, transport_finalize},
    {Py_tp_traverse, transport_traverse},
    {Py_tp_clear, transport_clear},
    {Py_tp_repr, transport_repr},
    {Py_tp_methods, transport_methods},
    {Py_tp_getset, transport_getset},
    {Py_tp_members, transport_members},
    {0, NULL},
};

PyType_Spec pyhoop_transport_spec = {
    .name = "hoop._hoop.SocketTransport",
    .basicsize = sizeof(TransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = transport_slots,
};
