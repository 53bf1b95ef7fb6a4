/* SPDX-License-Identifier: MIT
 *
 * sock_sendall, sock_sendto.
 */
#include <errno.h>

#include "core/sys.h"
#include "py/address.h"
#include "py/operation.h"

enum {
    RELEASE_GIL_SIZE = 256 * 1024, /* copying this much takes long enough for others to run */
    SENDS_PER_TURN = 16,           /* to a peer that reads as fast as we send */
};

static ssize_t send_bytes(int fd, const char *bytes, size_t size) {
    if (size < RELEASE_GIL_SIZE)
        return hoop_sys_send(fd, bytes, size);
    ssize_t sent;
    Py_BEGIN_ALLOW_THREADS;
    sent = hoop_sys_send(fd, bytes, size);
    Py_END_ALLOW_THREADS;
    return sent;
}

/* Waits only when the kernel has refused: descriptors are watched by edges. */
static enum pyhoop_outcome sendall_attempt(OperationObject *self, int fd, PyObject **result) {
    if (self->buffer.obj == NULL &&
        PyObject_GetBuffer(self->args[1], &self->buffer, PyBUF_SIMPLE) < 0) {
        self->buffer.obj = NULL;
        PyErr_Clear(); /* TypeError, BufferError, or what a __buffer__ raises: raised again */
        return PYHOOP_INHERITED;
    }
    const char *bytes = self->buffer.buf;
    for (int i = 0; i < SENDS_PER_TURN; i++) {
        ssize_t sent = send_bytes(fd, bytes + self->done, (size_t)(self->buffer.len - self->done));
        if (sent < 0)
            return pyhoop_operation_refused(sent);
        self->done += sent;
        if (self->done == self->buffer.len) {
            *result = Py_NewRef(Py_None);
            return PYHOOP_DONE;
        }
    }
    return PYHOOP_TURN;
}

static enum pyhoop_outcome sendto_attempt(OperationObject *self, int fd, PyObject **result) {
    union pyhoop_sockaddr address;
    socklen_t length = pyhoop_sockaddr_of(fd, self->args[2], &address);
    Py_buffer buffer;
    if (length == 0)
        return PYHOOP_INHERITED;
    if (PySys_Audit("socket.sendto", "OO", self->args[0], self->args[2]) < 0)
        return PYHOOP_FAILED;
    if (PyObject_GetBuffer(self->args[1], &buffer, PyBUF_SIMPLE) < 0) {
        PyErr_Clear(); /* as above */
        return PYHOOP_INHERITED;
    }
    ssize_t sent = hoop_sys_send_to(fd, buffer.buf, (size_t)buffer.len, &address.any, length);
    PyBuffer_Release(&buffer);
    if (sent < 0)
        return pyhoop_operation_refused(sent);
    *result = PyLong_FromSsize_t(sent);
    return *result == NULL ? PYHOOP_FAILED : PYHOOP_DONE;
}

const struct pyhoop_operation_kind pyhoop_sock_sendall = {
    "sock_sendall", 2, 2, PYHOOP_WRITER, false, sendall_attempt, NULL,
};

const struct pyhoop_operation_kind pyhoop_sock_sendto = {
    "sock_sendto", 3, 3, PYHOOP_WRITER, false, sendto_attempt, NULL,
};
