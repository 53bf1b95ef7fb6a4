/* SPDX-License-Identifier: MIT
 *
 * sock_connect, sock_accept.
 */
#include <errno.h>

#include "core/sys.h"
#include "py/address.h"
#include "py/operation.h"

/* ---- sock_connect ---- */

/* The address in the words of asyncio, which names what was resolved. */
static PyObject *resolved(int fd, PyObject *address) {
    int family = AF_UNSPEC;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (family != AF_INET6 || !PyTuple_Check(address))
        return Py_NewRef(address);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *full = zero == NULL ? NULL : PyTuple_New(4);
    for (Py_ssize_t i = 0; full != NULL && i < 4; i++)
        PyTuple_SET_ITEM(
            full, i,
            Py_NewRef(i < PyTuple_GET_SIZE(address) ? PyTuple_GET_ITEM(address, i) : zero));
    Py_XDECREF(zero);
    return full;
}

/* OSError of the class that goes with the number. */
static void raise_connect_failed(OperationObject *self, int fd, int error) {
    PyObject *address = resolved(fd, self->args[1]);
    PyObject *text =
        address == NULL ? NULL : PyUnicode_FromFormat("Connect call failed %S", address);
    PyObject *exception =
        text == NULL ? NULL : PyObject_CallFunction(PyExc_OSError, "iO", error, text);
    if (exception != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(address);
    Py_XDECREF(text);
    Py_XDECREF(exception);
}

static enum pyhoop_outcome connected(PyObject **result) {
    *result = Py_NewRef(Py_None);
    return PYHOOP_DONE;
}

/* A unix socket whose peer has a full backlog: no event tells when it has room. */
static enum pyhoop_outcome connect_later(OperationObject *self) {
    self->inner = PyObject_CallFunctionObjArgs(self->loop->state->cold_connect_later, self->args[0],
                                               self->args[1], NULL);
    return self->inner == NULL ? PYHOOP_FAILED : PYHOOP_HANDED_ON;
}

static enum pyhoop_outcome begin_connect(OperationObject *self, int fd, PyObject **result) {
    union pyhoop_sockaddr address;
    socklen_t length = pyhoop_sockaddr_of(fd, self->args[1], &address);
    if (length == 0)
        return PYHOOP_INHERITED;
    if (PySys_Audit("socket.connect", "OO", self->args[0], self->args[1]) < 0)
        return PYHOOP_FAILED;
    int rc = hoop_sys_connect(fd, &address.any, length);
    switch (rc) {
    case 0:
        return connected(result);
    case -EINPROGRESS:
    case -EALREADY:
    case -EINTR:
        self->done = 1;
        return PYHOOP_WAIT;
    case -EAGAIN:
        return connect_later(self);
    default:
        return pyhoop_operation_refused(rc);
    }
}

static enum pyhoop_outcome end_connect(OperationObject *self, int fd, PyObject **result) {
    int error = 0;
    if (fd >= 0 && !hoop_sys_is_writable(fd)) /* the event was not of this connect */
        return PYHOOP_WAIT;
    int rc = hoop_sys_socket_option(fd, SOL_SOCKET, SO_ERROR, &error);
    if (rc < 0)
        return pyhoop_operation_refused(rc);
    if (error == 0)
        return connected(result);
    raise_connect_failed(self, fd, error);
    return PYHOOP_FAILED;
}

static enum pyhoop_outcome connect_attempt(OperationObject *self, int fd, PyObject **result) {
    return self->done == 0 ? begin_connect(self, fd, result) : end_connect(self, fd, result);
}

/* ---- sock_accept ---- */

/* socket.accept() gives the connection the listening socket's family, type and protocol. */
static PyObject *connection_socket(OperationObject *self, int family, int type, int fd) {
    struct pyhoop_state *state = self->loop->state;
    PyObject *protocol = PyObject_GetAttr(self->args[0], state->str_proto);
    PyObject *socket = NULL;
    if (protocol != NULL)
        socket = PyObject_CallFunction(state->socket_class, "iiOi", family, type | SOCK_NONBLOCK,
                                       protocol, fd);
    Py_XDECREF(protocol);
    if (socket == NULL)
        (void)hoop_sys_close(fd);
    return socket;
}

static enum pyhoop_outcome accept_attempt(OperationObject *self, int fd, PyObject **result) {
    int family = AF_UNSPEC, type = SOCK_STREAM;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_TYPE, &type);
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return PYHOOP_INHERITED;
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    int connection = hoop_sys_accept(fd, (struct sockaddr *)&peer, &length);
    if (connection < 0)
        return pyhoop_operation_refused(connection);
    PyObject *socket = connection_socket(self, family, type, connection);
    PyObject *address = socket == NULL ? NULL : pyhoop_address((struct sockaddr *)&peer, length);
    *result = address == NULL ? NULL : PyTuple_Pack(2, socket, address);
    Py_XDECREF(socket);
    Py_XDECREF(address);
    return *result == NULL ? PYHOOP_FAILED : PYHOOP_DONE;
}

const struct pyhoop_operation_kind pyhoop_sock_connect = {
    "sock_connect", 2, 2, PYHOOP_WRITER, true, connect_attempt, NULL,
};

const struct pyhoop_operation_kind pyhoop_sock_accept = {
    "sock_accept", 1, 1, PYHOOP_READER, true, accept_attempt, NULL,
};
