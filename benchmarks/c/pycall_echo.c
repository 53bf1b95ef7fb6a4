/* SPDX-License-Identifier: MIT
 *
 * The second limit: the same epoll loop inside the interpreter, with exactly one Python call a
 * message. It receives into a scratch buffer, makes a bytes object, calls the protocol's
 * data_received(data), and that calls Transport.write(data), which sends at once.
 *
 *   pycall_echo.serve(listening_fd, protocol_factory)   never returns
 *
 * protocol_factory(transport) returns an object with data_received(bytes). There is no ready
 * queue, timer, context, flow control or error handling: no event loop can be cheaper and still
 * call data_received. Like any loop it releases the GIL while it waits.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, SCRATCH_BYTES = 256 * 1024 };

typedef struct {
    PyObject_HEAD
    int fd;
    int epoll;
    PyObject *data_received; /* bound method; NULL once closed */
    char *pending;           /* malloc'ed bytes the kernel has not taken, NULL if none */
    size_t pending_length;
} Transport;

static char scratch[SCRATCH_BYTES];

static int watch(Transport *self, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = self};
    if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, self->fd, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int append_pending(Transport *self, const char *data, size_t length) {
    char *grown = realloc(self->pending, self->pending_length + length);
    if (!grown) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(grown + self->pending_length, data, length);
    self->pending = grown;
    self->pending_length += length;
    return watch(self, EPOLLOUT);
}

static PyObject *transport_write(PyObject *op, PyObject *data) {
    Transport *self = (Transport *)op;
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "write() takes bytes");
        return NULL;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(data);
    ssize_t sent = 0;
    if (!self->pending) {
        sent = send(self->fd, PyBytes_AS_STRING(data), length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return PyErr_SetFromErrno(PyExc_OSError);
        sent = sent < 0 ? 0 : sent;
    }
    if ((size_t)sent < length &&
        append_pending(self, PyBytes_AS_STRING(data) + sent, length - (size_t)sent) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void transport_dealloc(PyObject *op) {
    Transport *self = (Transport *)op;
    PyTypeObject *type = Py_TYPE(op);
    free(self->pending);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef transport_methods[] = {
    {"write", transport_write, METH_O, "Send the bytes now; what does not fit follows."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot transport_slots[] = {
    {Py_tp_dealloc, transport_dealloc},
    {Py_tp_methods, transport_methods},
    {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "pycall_echo.Transport",
    .basicsize = sizeof(Transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = transport_slots,
};

/* The reference that keeps a transport alive while its descriptor is open is the loop's. */
static void transport_close(Transport *self) {
    close(self->fd);
    Py_CLEAR(self->data_received);
    Py_DECREF(self);
}

static int accept_one(int epoll, int listener, PyTypeObject *type, PyObject *factory) {
    int on = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* refused by unix sockets */
    Transport *self = (Transport *)type->tp_alloc(type, 0);
    if (!self)
        return -1;
    self->fd = fd;
    self->epoll = epoll;
    PyObject *protocol = PyObject_CallOneArg(factory, (PyObject *)self);
    if (!protocol)
        return -1;
    self->data_received = PyObject_GetAttrString(protocol, "data_received");
    Py_DECREF(protocol);
    if (!self->data_received)
        return -1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = self};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int receive(Transport *self) {
    ssize_t n = recv(self->fd, scratch, sizeof scratch, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            transport_close(self);
        return 0;
    }
    PyObject *data = PyBytes_FromStringAndSize(scratch, n);
    if (!data)
        return -1;
    PyObject *result = PyObject_CallOneArg(self->data_received, data);
    Py_DECREF(data);
    if (!result)
        return -1;
    Py_DECREF(result);
    return 0;
}

static int send_pending(Transport *self) {
    ssize_t sent = send(self->fd, self->pending, self->pending_length, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            transport_close(self);
        return 0;
    }
    self->pending_length -= (size_t)sent;
    if (self->pending_length) {
        memmove(self->pending, self->pending + sent, self->pending_length);
        return 0;
    }
    free(self->pending);
    self->pending = NULL;
    return watch(self, EPOLLIN);
}

static PyObject *serve(PyObject *module, PyObject *args) {
    int listener;
    PyObject *factory;
    if (!PyArg_ParseTuple(args, "iO:serve", &listener, &factory))
        return NULL;
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &transport_spec, NULL);
    if (!type)
        return NULL;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);

    struct epoll_event events[EVENTS];
    for (;;) {
        int ready;
        Py_BEGIN_ALLOW_THREADS ready = epoll_wait(epoll, events, EVENTS, -1);
        Py_END_ALLOW_THREADS for (int i = 0; i < ready; i++) {
            Transport *transport = events[i].data.ptr;
            int status;
            if (!transport)
                status = accept_one(epoll, listener, type, factory);
            else if (transport->pending)
                status = send_pending(transport);
            else
                status = receive(transport);
            if (status < 0)
                return NULL;
        }
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
}

static PyMethodDef module_methods[] = {
    {"serve", serve, METH_VARARGS, "serve(listening_fd, protocol_factory): echo for ever."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pycall_echo",
    .m_size = 0,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit_pycall_echo(void) {
    return PyModuleDef_Init(&module_def);
}
