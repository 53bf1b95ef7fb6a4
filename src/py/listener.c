/* SPDX-License-Identifier: MIT */
#include "py/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "core/sys.h"
#include "py/address.h"
#include "py/readers.h"
#include "py/transport.h"

typedef struct {
    PyObject_HEAD
    struct hoop_watch watch;
    struct hoop_timer retry;
    LoopObject *loop; /* strong while it listens */
    PyObject *factory;
    PyObject *socket;
    PyObject *server;
    PyObject *context;
    PyObject *ssl_arguments; /* NULL: plain. (sslcontext, server, handshake, shutdown timeout) */
    int accepts_per_round;
    bool is_starved; /* out of descriptors or memory, and reported */
} ListenerObject;

static int on_events(struct hoop_watch *watch, uint32_t events);
static void stop(struct hoop_watch *watch);
static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg);
static int retry_run(struct hoop_item *item);
static void retry_drop(struct hoop_item *item);
static int retry_traverse(struct hoop_item *item, visitproc visit, void *arg);

static const struct pyhoop_watch_type watch_type = {{on_events, stop}, watch_traverse};
static const struct pyhoop_item_type retry_type = {{retry_run, retry_drop}, retry_traverse};

static ListenerObject *listener_of(struct hoop_watch *watch) {
    return HOOP_CONTAINER_OF(watch, ListenerObject, watch);
}

static ListenerObject *listener_of_retry(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, ListenerObject, retry.item);
}

/* ---- errors ---- */

static int retry_run(struct hoop_item *item) {
    ListenerObject *self = listener_of_retry(item);
    int rc = 0;
    if (self->watch.fd >= 0)
        rc = hoop_watches_want(&self->loop->core.watches, &self->watch, HOOP_POLL_READ);
    if (rc < 0) { /* the socket was closed without its server */
        pyhoop_raise_errno(rc);
        rc = pyhoop_loop_report(self->loop, "cannot listen any more", "socket", self->socket, NULL,
                                NULL);
    }
    Py_DECREF(self);
    return rc;
}

static void retry_drop(struct hoop_item *item) {
    Py_DECREF(listener_of_retry(item));
}

/* Stops asking for a while; the kernel keeps the connections in its queue. */
static void back_off(ListenerObject *self) {
    if (hoop_timer_is_armed(&self->retry)) /* a nested iteration has done so */
        return;
    (void)hoop_watches_want(&self->loop->core.watches, &self->watch, 0);
    int64_t deadline_ns = hoop_loop_now_ns(&self->loop->core) + PYHOOP_ACCEPT_RETRY_NS;
    Py_INCREF(self);
    if (hoop_timers_arm(&self->loop->core.timers, &self->retry, deadline_ns) < 0) {
        Py_DECREF(self); /* no memory for the timer: ask on */
        (void)hoop_watches_want(&self->loop->core.watches, &self->watch, HOOP_POLL_READ);
    }
}

static int report_accept_error(ListenerObject *self, int error, const char *message) {
    PyObject *socket =
        PyObject_CallOneArg(self->loop->state->asyncio_transport_socket, self->socket);
    if (socket == NULL)
        return -1;
    pyhoop_raise_errno(error);
    int rc = pyhoop_loop_report(self->loop, message, "socket", socket, NULL, NULL);
    Py_DECREF(socket);
    return rc;
}

/* accept() said no: is it the caller's affair, the peer's, or ours? */
static int handle_accept_error(ListenerObject *self, int error) {
    switch (-error) {
    case EAGAIN:
        self->is_starved = false;
        return 0;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        back_off(self);
        if (self->is_starved)
            return 0;
        self->is_starved = true;
        return report_accept_error(self, error, "socket.accept() out of system resource");
    case ECONNABORTED:
    case EPERM:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
        return 0; /* that connection's trouble (accept(2)); the next one may be fine */
    default:
        (void)hoop_watches_want(&self->loop->core.watches, &self->watch, 0);
        return report_accept_error(self, error, "socket.accept() failed, listening ended");
    }
}

/* ---- a connection ---- */

static int report_connection_error(ListenerObject *self, PyObject *protocol) {
    if (pyhoop_error_leaves_loop())
        return -1;
    return pyhoop_loop_report(self->loop, "Error on transport creation for incoming connection",
                              protocol == NULL ? NULL : "protocol", protocol, NULL, NULL);
}

static PyObject *make_protocol(ListenerObject *self, PyObject *context) {
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *protocol = PyObject_CallNoArgs(self->factory);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(protocol);
    return protocol;
}

static int log_connection(ListenerObject *self, TransportObject *transport) {
    if (!self->loop->is_debug)
        return 0;
    PyObject *result =
        PyObject_CallFunction(self->loop->state->cold_log_connection, "OO",
                              self->server == NULL ? Py_None : self->server, (PyObject *)transport);
    Py_XDECREF(result);
    return result == NULL ? report_connection_error(self, transport->protocol) : 0;
}

/* Takes over `fd`. */
static int serve_plain(ListenerObject *self, int fd, const struct sockaddr *peer,
                       socklen_t peer_length) {
    PyObject *protocol = NULL;
    TransportObject *transport = NULL;
    PyObject *context = PyContext_Copy(self->context);
    if (context != NULL)
        protocol = make_protocol(self, context);
    if (protocol != NULL && self->watch.fd < 0) {
        (void)hoop_sys_close(fd); /* the factory closed the server */
        Py_DECREF(protocol);
        Py_DECREF(context);
        return 0;
    }
    if (protocol != NULL)
        transport = pyhoop_transport_new(self->loop, fd, NULL, protocol, context, self->server,
                                         NULL, peer, peer->sa_family == AF_UNIX ? 0 : peer_length);
    int rc = 0;
    if (transport == NULL) {
        (void)hoop_sys_close(fd);
        rc = report_connection_error(self, protocol);
    } else {
        rc = log_connection(self, transport);
    }
    Py_XDECREF(transport);
    Py_XDECREF(protocol);
    Py_XDECREF(context);
    return rc;
}

/* Takes over `fd`: asyncio's coroutine does the TLS handshake and all that follows. */
static int serve_tls(ListenerObject *self, int fd, const struct sockaddr *peer,
                     socklen_t peer_length) {
    PyObject *address = pyhoop_address(peer, peer_length);
    PyObject *result = NULL;
    if (address != NULL)
        result = PyObject_CallFunction(self->loop->state->cold_accept_connection, "OOOiOOO",
                                       self->loop, self->factory, self->socket, fd, address,
                                       self->ssl_arguments, self->context);
    else
        (void)hoop_sys_close(fd);
    Py_XDECREF(address);
    if (result == NULL)
        return report_connection_error(self, NULL);
    Py_DECREF(result);
    return 0;
}

static int accept_one(ListenerObject *self, bool *is_done) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    int fd = hoop_sys_accept(self->watch.fd, (struct sockaddr *)&peer, &length);
    *is_done = fd < 0 && fd != -ECONNABORTED;
    if (fd < 0)
        return handle_accept_error(self, fd);
    return self->ssl_arguments == NULL ? serve_plain(self, fd, (struct sockaddr *)&peer, length)
                                       : serve_tls(self, fd, (struct sockaddr *)&peer, length);
}

static int on_events(struct hoop_watch *watch, uint32_t events) {
    (void)events;
    ListenerObject *self = listener_of(watch);
    Py_INCREF(self);
    int rc = 0;
    bool is_done = false;
    /* A protocol factory may close the server meanwhile. */
    for (int i = 0; i < self->accepts_per_round && rc == 0 && !is_done && self->watch.fd >= 0; i++)
        rc = accept_one(self, &is_done);
    Py_DECREF(self);
    return rc;
}

/* ---- life ---- */

static void stop(struct hoop_watch *watch) {
    ListenerObject *self = listener_of(watch);
    struct hoop_loop *core = &self->loop->core;
    hoop_watches_stop(&core->watches, watch);
    if (hoop_timer_is_armed(&self->retry)) {
        hoop_timers_cancel(&core->timers, &self->retry);
        Py_DECREF(self);
    }
    Py_DECREF(self);
}

bool pyhoop_listener_stop_fd(LoopObject *loop, int fd) {
    struct hoop_watch *watch = hoop_watches_find(&loop->core.watches, fd);
    if (watch == NULL || watch->type != &watch_type.core)
        return false;
    stop(watch);
    return true;
}

static bool is_inet(int fd) {
    int family = 0;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    return family == AF_INET || family == AF_INET6;
}

static int listen_on(ListenerObject *self, int fd) {
    if (is_inet(fd)) /* the sockets it accepts inherit it: one call less for each */
        (void)hoop_sys_set_socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    hoop_watches_forget(&self->loop->core.watches, fd);
    int rc = hoop_watches_start(&self->loop->core.watches, &self->watch, fd, HOOP_POLL_READ);
    if (rc < 0) {
        pyhoop_raise_errno(rc);
        return -1;
    }
    Py_INCREF(self); /* the table's */
    return 0;
}

PyObject *pyhoop_loop_start_serving(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"protocol_factory",
                            "sock",
                            "sslcontext",
                            "server",
                            "backlog",
                            "ssl_handshake_timeout",
                            "ssl_shutdown_timeout",
                            "context",
                            NULL};
    LoopObject *loop = (LoopObject *)op;
    struct pyhoop_state *state = loop->state;
    PyObject *factory, *socket, *ssl = Py_None, *server = Py_None, *handshake = Py_None,
                                *shutdown = Py_None, *context = Py_None;
    int backlog = 100;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOiOOO:_start_serving", names, &factory,
                                     &socket, &ssl, &server, &backlog, &handshake, &shutdown,
                                     &context))
        return NULL;
    if (pyhoop_loop_check_open(loop) < 0)
        return NULL;
    int fd = pyhoop_fd_of(state, socket);
    if (fd < 0)
        return NULL;

    ListenerObject *self =
        (ListenerObject *)state->listener_type->tp_alloc(state->listener_type, 0);
    if (self == NULL)
        return NULL;
    hoop_watch_init(&self->watch, &watch_type.core);
    hoop_timer_init(&self->retry, &retry_type.core);
    self->loop = (LoopObject *)Py_NewRef(op);
    self->factory = Py_NewRef(factory);
    self->socket = Py_NewRef(socket);
    self->server = server == Py_None ? NULL : Py_NewRef(server);
    self->accepts_per_round = backlog < 1                          ? 1
                              : backlog > PYHOOP_ACCEPTS_PER_ROUND ? PYHOOP_ACCEPTS_PER_ROUND
                                                                   : backlog;
    self->context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (ssl != Py_None)
        self->ssl_arguments = PyTuple_Pack(4, ssl, server, handshake, shutdown);
    bool failed = self->context == NULL || PyErr_Occurred() || listen_on(self, fd) < 0;
    Py_DECREF(self);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static int listener_traverse(PyObject *op, visitproc visit, void *arg) {
    ListenerObject *self = (ListenerObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->factory);
    Py_VISIT(self->socket);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    Py_VISIT(self->ssl_arguments);
    return 0;
}

static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg) {
    Py_VISIT(listener_of(watch));
    return 0;
}

static int retry_traverse(struct hoop_item *item, visitproc visit, void *arg) {
    Py_VISIT(listener_of_retry(item));
    return 0;
}

static int listener_clear(PyObject *op) {
    ListenerObject *self = (ListenerObject *)op;
    if (self->watch.fd >= 0)
        stop(&self->watch);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    Py_CLEAR(self->ssl_arguments);
    Py_CLEAR(self->loop);
    return 0;
}

static void listener_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)listener_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, PyDoc_STR("A listening socket of a server.")},
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_traverse, listener_traverse},
    {Py_tp_clear, listener_clear},
    {0, NULL},
};

PyType_Spec pyhoop_listener_spec = {
    .name = "hoop._hoop.Listener",
    .basicsize = sizeof(ListenerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = listener_slots,
};
