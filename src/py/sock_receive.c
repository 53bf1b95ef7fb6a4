/* SPDX-License-Identifier: MIT
 *
 * sock_recv, sock_recv_into, sock_recvfrom, sock_recvfrom_into.
 */
#include "core/sys.h"
#include "py/address.h"
#include "py/operation.h"

/* From here on copying costs more than making an object of the size asked for, and shrinking it. */
enum { MUCH = 16 * 1024 };

/* A number of bytes as int, above 0; 0 for anything else. */
static Py_ssize_t size_of(PyObject *number) {
    if (!PyLong_CheckExact(number))
        return 0;
    Py_ssize_t size = PyLong_AsSsize_t(number);
    if (size == -1 && PyErr_Occurred())
        PyErr_Clear(); /* OverflowError */
    return size > 0 ? size : 0;
}

/* Where `size` bytes can be received: the loop's scratch buffer, or if that is too small or much
 * is expected *bytes, a new object. */
static char *make_room(OperationObject *self, Py_ssize_t size, PyObject **bytes) {
    *bytes = NULL;
    bool is_much = size >= MUCH && self->loop->receives_much;
    if (size <= PYHOOP_SCRATCH_SIZE && !is_much)
        return pyhoop_loop_scratch(self->loop);
    *bytes = PyBytes_FromStringAndSize(NULL, size);
    return *bytes == NULL ? NULL : PyBytes_AS_STRING(*bytes);
}

/* The `got` bytes that lie in `room`, as an object; takes over `bytes`. */
static PyObject *as_bytes(OperationObject *self, const char *room, ssize_t got, PyObject *bytes) {
    self->loop->receives_much = got >= MUCH;
    if (bytes == NULL)
        return PyBytes_FromStringAndSize(room, got);
    (void)_PyBytes_Resize(&bytes, got); /* NULL on error */
    return bytes;
}

static enum pyhoop_outcome ended(PyObject *result) {
    return result == NULL ? PYHOOP_FAILED : PYHOOP_DONE;
}

static enum pyhoop_outcome recv_attempt(OperationObject *self, int fd, PyObject **result) {
    Py_ssize_t size = size_of(self->args[1]);
    if (size == 0)
        return PYHOOP_INHERITED;
    PyObject *bytes;
    char *room = make_room(self, size, &bytes);
    if (room == NULL)
        return PYHOOP_FAILED;
    ssize_t got = hoop_sys_recv(fd, room, (size_t)size);
    if (got < 0) {
        Py_XDECREF(bytes);
        return pyhoop_operation_refused(got);
    }
    *result = as_bytes(self, room, got, bytes);
    return ended(*result);
}

/* The writable buffer of args[1]; false if asyncio's own code must say what is wrong with it. */
static bool open_buffer(OperationObject *self, Py_buffer *buffer) {
    if (PyObject_GetBuffer(self->args[1], buffer, PyBUF_WRITABLE) < 0) {
        PyErr_Clear(); /* TypeError, BufferError, or what a __buffer__ raises: raised again */
        return false;
    }
    return true;
}

static enum pyhoop_outcome recv_into_attempt(OperationObject *self, int fd, PyObject **result) {
    Py_buffer buffer;
    if (!open_buffer(self, &buffer))
        return PYHOOP_INHERITED;
    ssize_t got = buffer.len == 0 ? 0 : hoop_sys_recv(fd, buffer.buf, (size_t)buffer.len);
    PyBuffer_Release(&buffer);
    if (got < 0)
        return pyhoop_operation_refused(got);
    *result = PyLong_FromSsize_t(got);
    return ended(*result);
}

static bool knows_addresses_of(int fd) {
    int family = AF_UNSPEC;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

/* (first, address); takes over `first`. An empty address is None. */
static PyObject *with_address(PyObject *first, const struct sockaddr_storage *peer,
                              socklen_t length) {
    PyObject *address =
        first == NULL ? NULL : pyhoop_address((const struct sockaddr *)peer, length);
    PyObject *pair = address == NULL ? NULL : PyTuple_Pack(2, first, address);
    Py_XDECREF(first);
    Py_XDECREF(address);
    return pair;
}

static enum pyhoop_outcome recvfrom_attempt(OperationObject *self, int fd, PyObject **result) {
    Py_ssize_t size = size_of(self->args[1]);
    if (size == 0 || !knows_addresses_of(fd))
        return PYHOOP_INHERITED;
    PyObject *bytes;
    char *room = make_room(self, size, &bytes);
    if (room == NULL)
        return PYHOOP_FAILED;
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    ssize_t got = hoop_sys_recv_from(fd, room, (size_t)size, (struct sockaddr *)&peer, &length);
    if (got < 0) {
        Py_XDECREF(bytes);
        return pyhoop_operation_refused(got);
    }
    *result = with_address(as_bytes(self, room, got, bytes), &peer, length);
    return ended(*result);
}

static bool is_zero(PyObject *number) {
    int overflow;
    return PyLong_CheckExact(number) && PyLong_AsLongAndOverflow(number, &overflow) == 0 &&
           overflow == 0;
}

/* How many bytes to receive: nbytes, or if that is left out or 0 the length of the buffer, which
 * is len() of the object in asyncio. 0 if that is unusual. */
static Py_ssize_t bytes_to_receive(OperationObject *self, const Py_buffer *buffer) {
    bool is_given = self->arg_count > 2 && !is_zero(self->args[2]);
    Py_ssize_t size = is_given ? size_of(self->args[2]) : PyObject_Size(self->args[1]);
    if (size < 0)
        PyErr_Clear(); /* TypeError: it has no len() */
    if (!is_given && size != buffer->len)
        return 0;
    return size <= buffer->len ? size : 0;
}

static enum pyhoop_outcome recvfrom_into_attempt(OperationObject *self, int fd, PyObject **result) {
    Py_buffer buffer;
    if (!knows_addresses_of(fd) || !open_buffer(self, &buffer))
        return PYHOOP_INHERITED;
    Py_ssize_t size = bytes_to_receive(self, &buffer);
    if (size <= 0) {
        PyBuffer_Release(&buffer);
        return PYHOOP_INHERITED;
    }
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    ssize_t got =
        hoop_sys_recv_from(fd, buffer.buf, (size_t)size, (struct sockaddr *)&peer, &length);
    PyBuffer_Release(&buffer);
    if (got < 0)
        return pyhoop_operation_refused(got);
    *result = with_address(PyLong_FromSsize_t(got), &peer, length);
    return ended(*result);
}

const struct pyhoop_operation_kind pyhoop_sock_recv = {
    "sock_recv", 2, 2, PYHOOP_READER, false, recv_attempt, NULL,
};

const struct pyhoop_operation_kind pyhoop_sock_recv_into = {
    "sock_recv_into", 2, 2, PYHOOP_READER, false, recv_into_attempt, NULL,
};

const struct pyhoop_operation_kind pyhoop_sock_recvfrom = {
    "sock_recvfrom", 2, 2, PYHOOP_READER, false, recvfrom_attempt, NULL,
};

const struct pyhoop_operation_kind pyhoop_sock_recvfrom_into = {
    "sock_recvfrom_into", 2, 3, PYHOOP_READER, false, recvfrom_into_attempt, NULL,
};
