/* SPDX-License-Identifier: MIT
 *
 * _sock_sendfile_native, which sock_sendfile and sendfile try first.
 */
#include <errno.h>

#include "core/sys.h"
#include "py/operation.h"

/* At once: the call may wait for the disk, and others want their turn. */
enum { BYTES_PER_TURN = 1024 * 1024 };

/* A whole number from 0 on, -1 for anything else. */
static int64_t number_of(PyObject *object) {
    if (!PyLong_CheckExact(object))
        return -1;
    long long number = PyLong_AsLongLong(object);
    if (number == -1 && PyErr_Occurred())
        PyErr_Clear(); /* OverflowError */
    return number < 0 ? -1 : number;
}

/* Takes over the arguments; false if asyncio's own code must say what is wrong with them. */
static bool read_arguments(OperationObject *self) {
    int64_t offset = number_of(self->args[2]);
    int64_t count = self->args[3] == Py_None ? 0 : number_of(self->args[3]);
    PyObject *number = PyObject_CallMethodNoArgs(self->args[1], self->loop->state->str_fileno);
    if (number == NULL)
        PyErr_Clear(); /* whatever it raised is raised again */
    int64_t descriptor = number == NULL ? -1 : number_of(number);
    Py_XDECREF(number);
    if (offset < 0 || count < 0 || descriptor < 0 || descriptor > INT32_MAX)
        return false;
    self->file.offset = offset;
    self->file.count = count;
    self->file.descriptor = (int)descriptor;
    return true;
}

/* False for an empty file, too, and what is no file. */
static bool begin(OperationObject *self) {
    if (!read_arguments(self))
        return false;
    int64_t size = hoop_sys_file_size(self->file.descriptor);
    self->file.is_open = size > 0 || (size == 0 && self->file.count > 0);
    return self->file.is_open;
}

static enum pyhoop_outcome sent_all(OperationObject *self, PyObject **result) {
    *result = PyLong_FromLongLong(self->done);
    return *result == NULL ? PYHOOP_FAILED : PYHOOP_DONE;
}

static enum pyhoop_outcome raise_not_available(OperationObject *self) {
    PyErr_SetString(self->loop->state->asyncio_sendfile_not_available, "os.sendfile call failed");
    return PYHOOP_FAILED;
}

/* asyncio's word for a connection that was closed meanwhile. */
static enum pyhoop_outcome raise_not_connected(void) {
    PyObject *cause = PyErr_GetRaisedException();
    PyObject *exception =
        PyObject_CallFunction(PyExc_ConnectionError, "si", "socket is not connected", ENOTCONN);
    if (exception != NULL) {
        PyException_SetCause(exception, cause);
        PyErr_SetObject(PyExc_ConnectionError, exception);
        Py_DECREF(exception);
    } else {
        Py_DECREF(cause);
    }
    return PYHOOP_FAILED;
}

static enum pyhoop_outcome send_refused(OperationObject *self, ssize_t rc) {
    if (rc == -EAGAIN)
        return PYHOOP_WAIT;
    if (self->done == 0) /* maybe not a file that can be sent so; let the caller try otherwise */
        return raise_not_available(self);
    pyhoop_raise_errno((int)rc);
    return rc == -ENOTCONN ? raise_not_connected() : PYHOOP_FAILED;
}

static ssize_t send_some(const OperationObject *self, int fd, size_t size) {
    ssize_t sent;
    int file = self->file.descriptor;
    int64_t offset = self->file.offset;
    Py_BEGIN_ALLOW_THREADS;
    sent = hoop_sys_send_file(fd, file, offset, size);
    Py_END_ALLOW_THREADS;
    return sent;
}

static enum pyhoop_outcome sendfile_attempt(OperationObject *self, int fd, PyObject **result) {
    if (!self->file.is_open && !begin(self))
        return PYHOOP_INHERITED;
    int64_t in_turn = 0;
    while (in_turn < BYTES_PER_TURN) {
        int64_t size = BYTES_PER_TURN - in_turn;
        if (self->file.count > 0 && self->file.count - self->done < size)
            size = self->file.count - self->done;
        if (size == 0)
            return sent_all(self, result);
        ssize_t sent = send_some(self, fd, (size_t)size);
        if (sent < 0)
            return send_refused(self, sent);
        if (sent == 0)
            return sent_all(self, result);
        self->file.offset += sent;
        self->done += sent;
        in_turn += sent;
    }
    return PYHOOP_TURN;
}

/* The file's position tells how far it went, also when sending failed or was cancelled. */
static int sendfile_end(OperationObject *self) {
    if (!self->file.is_open || (self->done == 0 && !self->loop->state->sendfile_always_seeks))
        return 0;
    int rc = hoop_sys_file_seek(self->file.descriptor, self->file.offset);
    if (rc == 0 || self->done == 0)
        return 0;
    pyhoop_raise_errno(rc);
    return -1;
}

const struct pyhoop_operation_kind pyhoop_sock_sendfile = {
    "_sock_sendfile_native", 4, 4, PYHOOP_WRITER, true, sendfile_attempt, sendfile_end,
};
