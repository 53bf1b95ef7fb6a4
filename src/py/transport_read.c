/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "core/sys.h"
#include "py/pipe.h"
#include "py/stream.h"

enum { MAX_BYTES_PER_ROUND = PYHOOP_SCRATCH_SIZE, LARGE_READ = 16 * 1024 };

static bool wants_to_read(const TransportObject *self) {
    return self->watch.wanted & HOOP_POLL_READ;
}

static ssize_t receive(TransportObject *self, void *buffer, size_t size) {
    if (self->flags & PYHOOP_TRANSPORT_NO_SOCKET)
        return pyhoop_pipe_receive(self, buffer, size);
    return hoop_sys_recv(self->fd, buffer, size);
}

/* The current exception ends the connection. */
static int fail_read(TransportObject *self) {
    return pyhoop_transport_fatal(self, self->flags & PYHOOP_TRANSPORT_READ_PIPE
                                            ? "Fatal read error on pipe transport"
                                            : "Fatal read error on socket transport");
}

static int fail_receive(TransportObject *self, ssize_t rc) {
    pyhoop_raise_errno((int)rc);
    return fail_read(self);
}

static int end_of_file(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_READ_PIPE)
        return pyhoop_pipe_ended(self);
    struct pyhoop_state *state = self->loop->state;
    if (pyhoop_transport_log_debug(self, "%r received EOF") < 0)
        return pyhoop_transport_fatal(self, "Fatal read error on socket transport");
    if (self->loop == NULL) /* whoever was logged to finished the connection */
        return 0;
    PyObject *result = pyhoop_transport_call(self, state->str_eof_received, NULL);
    int keeps_open = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (keeps_open < 0)
        return pyhoop_transport_fatal(self, "Fatal error: protocol.eof_received() call failed.");
    if (!keeps_open)
        return pyhoop_transport_close(self);
    self->flags |= PYHOOP_TRANSPORT_READ_ENDED;
    return pyhoop_transport_update(self);
}

/* Hands `data` to the stream reader or to data_received; takes over the reference, NULL is a
 * MemoryError. */
static int deliver(TransportObject *self, PyObject *data) {
    if (data == NULL)
        return fail_read(self);
    int rc;
    if (!pyhoop_stream_take_data(self, data, &rc)) {
        PyObject *result = pyhoop_transport_call(self, self->loop->state->str_data_received, data);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_DECREF(data);
    if (rc < 0 && self->flags & PYHOOP_TRANSPORT_READ_PIPE) /* asyncio keeps a pipe open */
        return pyhoop_transport_report(self, "Exception in callback protocol.data_received()");
    if (rc < 0)
        return pyhoop_transport_fatal(self, "Fatal error: protocol.data_received() call failed.");
    return 0;
}

/* recv() gave no bytes: the end, nothing yet, or an error. */
static int received_none(TransportObject *self, ssize_t rc) {
    if (rc == 0)
        return end_of_file(self);
    return rc == -EAGAIN ? 0 : fail_receive(self, rc);
}

/* The next read's size after one of `size` bytes: 0 while they are small. */
static uint32_t next_read_size(ssize_t size) {
    if (size < LARGE_READ)
        return 0;
    uint32_t next = LARGE_READ;
    while (next <= (uint32_t)size && next < PYHOOP_SCRATCH_SIZE)
        next *= 2;
    return next;
}

/* Through the loop's scratch buffer: the bytes object gets the size that came. */
static int read_by_scratch(TransportObject *self) {
    char *scratch = pyhoop_loop_scratch(self->loop);
    if (scratch == NULL)
        return fail_read(self);
    ssize_t size = receive(self, scratch, PYHOOP_SCRATCH_SIZE);
    if (size <= 0)
        return received_none(self, size);
    self->read_size = next_read_size(size);
    return deliver(self, PyBytes_FromStringAndSize(scratch, size));
}

/* Straight into the bytes object, which then shrinks: large messages are not copied. */
static int read_straight(TransportObject *self) {
    PyObject *data = PyBytes_FromStringAndSize(NULL, self->read_size);
    if (data == NULL)
        return deliver(self, NULL);
    ssize_t size = receive(self, PyBytes_AS_STRING(data), self->read_size);
    if (size <= 0) {
        Py_DECREF(data);
        return received_none(self, size);
    }
    if (size < self->read_size)
        (void)_PyBytes_Resize(&data, size); /* NULL on error */
    self->read_size = next_read_size(size);
    return deliver(self, data);
}

/* The buffer get_buffer() offers, checked; -1 with an exception set. */
static int offered_buffer(TransportObject *self, Py_buffer *buffer) {
    PyObject *hint = PyLong_FromLong(-1);
    PyObject *object =
        hint == NULL ? NULL : pyhoop_transport_call(self, self->loop->state->str_get_buffer, hint);
    Py_XDECREF(hint);
    if (object == NULL)
        return -1;
    int rc = PyObject_GetBuffer(object, buffer, PyBUF_WRITABLE);
    Py_DECREF(object);
    if (rc == 0 && buffer->len == 0) {
        PyBuffer_Release(buffer);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        return -1;
    }
    return rc;
}

/* `was_filled`: there may be more at once. */
static int read_buffered_once(TransportObject *self, Py_ssize_t *received, bool *was_filled) {
    Py_buffer buffer;
    *was_filled = false;
    if (offered_buffer(self, &buffer) < 0)
        return pyhoop_transport_fatal(self, "Fatal error: protocol.get_buffer() call failed.");
    if (self->conn_lost > 0 || self->fd < 0) { /* get_buffer() aborted the transport */
        PyBuffer_Release(&buffer);
        return 0;
    }
    ssize_t size = receive(self, buffer.buf, (size_t)buffer.len);
    *was_filled = size == buffer.len;
    PyBuffer_Release(&buffer);
    if (self->loop == NULL) /* releasing the buffer ran code that finished the connection */
        return 0;
    if (size == 0)
        return end_of_file(self);
    if (size < 0)
        return size == -EAGAIN ? 0 : fail_receive(self, size);
    *received += size;

    PyObject *count = PyLong_FromSsize_t(size);
    PyObject *result =
        count == NULL ? NULL
                      : pyhoop_transport_call(self, self->loop->state->str_buffer_updated, count);
    Py_XDECREF(count);
    if (result == NULL)
        return pyhoop_transport_fatal(self, "Fatal error: protocol.buffer_updated() call failed.");
    Py_DECREF(result);
    return 0;
}

static int read_buffered(TransportObject *self) {
    Py_ssize_t received = 0;
    bool was_filled;
    int rc;
    do {
        rc = read_buffered_once(self, &received, &was_filled);
    } while (rc == 0 && was_filled && received < MAX_BYTES_PER_ROUND && wants_to_read(self) &&
             self->flags & PYHOOP_TRANSPORT_BUFFERED);
    return rc;
}

int pyhoop_transport_read(TransportObject *self) {
    if (self->conn_lost > 0)
        return 0;
    if (self->flags & PYHOOP_TRANSPORT_BUFFERED)
        return read_buffered(self);
    return self->read_size > 0 ? read_straight(self) : read_by_scratch(self);
}
