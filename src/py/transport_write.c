/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>

#include "core/sys.h"
#include "py/pipe.h"

enum {
    DEFER_LIMIT = 64 * 1024,        /* more bytes than this don't wait for the phase's end */
    CROWD_LIMIT = 4 * 1024,         /* more bytes than this leave the cache while they wait */
    SEND_VECTOR = 64,               /* chunks a sendmsg takes */
    RELEASE_GIL_SIZE = 256 * 1024,  /* copying this much takes long enough for others to run */
    DEFAULT_HIGH_WATER = 64 * 1024, /* asyncio's */
    LOG_THRESHOLD_AFTER_LOSS = 5,   /* asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES */
};

/* ---- flow control ---- */

/* pause_writing or resume_writing; what it raises is reported, not fatal. */
static int tell_protocol(TransportObject *self, PyObject *method, const char *message) {
    PyObject *result = pyhoop_transport_call(self, method, NULL);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    return pyhoop_transport_report(self, message);
}

int pyhoop_transport_maybe_pause(TransportObject *self) {
    if (self->out.size <= self->high_water || self->flags & PYHOOP_TRANSPORT_PROTOCOL_PAUSED ||
        self->loop == NULL)
        return 0;
    self->flags |= PYHOOP_TRANSPORT_PROTOCOL_PAUSED;
    return tell_protocol(self, self->loop->state->str_pause_writing,
                         "protocol.pause_writing() failed");
}

int pyhoop_transport_maybe_resume(TransportObject *self) {
    if (!(self->flags & PYHOOP_TRANSPORT_PROTOCOL_PAUSED) || self->out.size > self->low_water)
        return 0;
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_PROTOCOL_PAUSED;
    return tell_protocol(self, self->loop->state->str_resume_writing,
                         "protocol.resume_writing() failed");
}

/* ---- sending ---- */

static PyObject *take_empty_waiter(TransportObject *self) {
    if (self->rare == NULL)
        return NULL;
    return Py_XNewRef(self->rare->empty_waiter);
}

static int shut_down_writing(TransportObject *self) {
    int rc = hoop_sys_shutdown_write(self->fd);
    if (rc == 0)
        return 0;
    pyhoop_raise_errno(rc);
    return -1;
}

/* Everything has been sent: what was waiting for that happens now. */
static int drained(TransportObject *self) {
    PyObject *waiter = take_empty_waiter(self);
    if (waiter != NULL) {
        PyObject *done = PyObject_CallMethodNoArgs(waiter, self->loop->state->str_done);
        PyObject *result =
            done == Py_False
                ? PyObject_CallMethodOneArg(waiter, self->loop->state->str_set_result, Py_None)
                : Py_XNewRef(done);
        Py_XDECREF(done);
        Py_DECREF(waiter);
        if (result == NULL)
            return -1;
        Py_DECREF(result);
    }
    if (self->conn_lost > 0)
        return 0;
    if (self->flags & PYHOOP_TRANSPORT_CLOSING)
        return pyhoop_transport_lose(self, NULL);
    if (self->flags & PYHOOP_TRANSPORT_EOF_WRITTEN && shut_down_writing(self) < 0)
        return pyhoop_transport_fatal(self, "Fatal write error on socket transport");
    return 0;
}

static ssize_t send_vector(int fd, uint32_t flags, struct iovec *vector, size_t count) {
    return flags & PYHOOP_TRANSPORT_NO_SOCKET ? pyhoop_pipe_send(fd, flags, vector, count)
                                              : hoop_sys_send_vector(fd, vector, count);
}

/* One send of as much as fits a vector: `offered` bytes. What the kernel took, or -errno. */
static ssize_t send_some(TransportObject *self, size_t *offered) {
    struct iovec vector[SEND_VECTOR];
    size_t count = pyhoop_outqueue_peek(&self->out, vector, SEND_VECTOR);
    *offered = 0;
    for (size_t i = 0; i < count; i++)
        *offered += vector[i].iov_len;
    if (count == 1 && *offered < RELEASE_GIL_SIZE && !(self->flags & PYHOOP_TRANSPORT_NO_SOCKET))
        return hoop_sys_send(self->fd, vector[0].iov_base, *offered);
    if (*offered < RELEASE_GIL_SIZE)
        return send_vector(self->fd, self->flags, vector, count);
    /* Another thread may not touch the transport, but it may not crash either. */
    PyObject *held[SEND_VECTOR];
    for (size_t i = 0; i < count; i++)
        held[i] = Py_NewRef(pyhoop_outqueue_chunk(&self->out, i));
    ssize_t result;
    int fd = self->fd;
    uint32_t flags = self->flags;
    Py_BEGIN_ALLOW_THREADS;
    result = send_vector(fd, flags, vector, count);
    Py_END_ALLOW_THREADS;
    for (size_t i = 0; i < count; i++)
        Py_DECREF(held[i]);
    return result;
}

static const char *write_failed(const TransportObject *self) {
    return self->flags & PYHOOP_TRANSPORT_WRITE_PIPE ? "Fatal write error on pipe transport"
                                                     : "Fatal write error on socket transport";
}

static int fail_write(TransportObject *self, int error) {
    PyObject *waiter = take_empty_waiter(self);
    pyhoop_outqueue_clear(&self->out);
    self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_BLOCKED;
    pyhoop_raise_errno(error);
    if (waiter != NULL) {
        PyObject *exception = PyErr_GetRaisedException();
        PyObject *result =
            PyObject_CallMethodOneArg(waiter, self->loop->state->str_set_exception, exception);
        if (result == NULL)
            PyErr_WriteUnraisable(waiter);
        Py_XDECREF(result);
        Py_DECREF(waiter);
        PyErr_SetRaisedException(exception);
    }
    return pyhoop_transport_fatal(self, write_failed(self));
}

/* Sends until the queue is empty or the kernel has enough. 0, or -1 to leave the loop. */
static int send_all(TransportObject *self) {
    while (self->out.size > 0) {
        size_t offered;
        ssize_t sent = send_some(self, &offered);
        if (sent == -EAGAIN)
            break;
        if (sent < 0)
            return fail_write(self, (int)sent);
        if ((size_t)sent > self->out.size) /* dropped meanwhile, the GIL was released */
            return 0;
        pyhoop_outqueue_drop(&self->out, (size_t)sent);
        if ((size_t)sent < offered)
            break; /* the kernel's buffer is full */
    }
    if (self->out.size > 0)
        self->flags |= PYHOOP_TRANSPORT_BLOCKED;
    else
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_BLOCKED;
    return 0;
}

/* A first attempt at what was just queued; the rest waits for the descriptor. */
static int send_now(TransportObject *self) {
    if (send_all(self) < 0)
        return -1;
    if (self->out.size == 0)
        return drained(self);
    if (self->conn_lost > 0)
        return 0;
    if (pyhoop_transport_update(self) < 0)
        return -1;
    return pyhoop_transport_maybe_pause(self);
}

int pyhoop_transport_flush_deferred(TransportObject *self) {
    if (self->out.size == 0 || self->flags & PYHOOP_TRANSPORT_BLOCKED || self->conn_lost > 0)
        return 0;
    return send_now(self);
}

int pyhoop_transport_flush_item(struct hoop_flush *flush) {
    TransportObject *self = HOOP_CONTAINER_OF(flush, TransportObject, flush);
    if (self->flags & PYHOOP_TRANSPORT_WROTE_ONCE)
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_COALESCES; /* held back for nothing */
    int rc = pyhoop_transport_flush_deferred(self);
    Py_DECREF(self);
    return rc;
}

int pyhoop_transport_write_ready(TransportObject *self) {
    if (self->conn_lost > 0)
        return 0;
    if (send_all(self) < 0)
        return -1;
    if (self->conn_lost > 0)
        return 0;
    if (pyhoop_transport_maybe_resume(self) < 0 || pyhoop_transport_update(self) < 0)
        return -1;
    return self->out.size == 0 ? drained(self) : 0;
}

/* ---- the methods ---- */

/* The bytes to send, new reference: as they are, or a copy of what may change. */
static PyObject *as_bytes(PyObject *data) {
    if (PyBytes_CheckExact(data))
        return Py_NewRef(data);
    if (PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data))
        return PyBytes_FromObject(data);
    PyObject *name = PyType_GetName(Py_TYPE(data));
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, PYHOOP_NO_BYTES ", not '%U'", name);
    Py_XDECREF(name);
    return NULL;
}

static int check_can_write(TransportObject *self, const char *method, const char *verb) {
    if (self->flags & PYHOOP_TRANSPORT_EOF_WRITTEN) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->rare != NULL && self->rare->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", verb);
        return -1;
    }
    return 0;
}

/* asyncio's pipes drop what is written after close(), too. */
static bool drops(const TransportObject *self) {
    return self->conn_lost > 0 ||
           (self->flags & PYHOOP_TRANSPORT_WRITE_PIPE && pyhoop_transport_is_closing(self));
}

int pyhoop_transport_write_after_loss(TransportObject *self) {
    if (self->conn_lost == 0) /* what was written before is still on its way */
        return 0;
    if (self->conn_lost++ < LOG_THRESHOLD_AFTER_LOSS)
        return 0;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *result =
        state == NULL ? NULL : PyObject_CallOneArg(state->cold_warn_send_raised, (PyObject *)self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether to wait for the phase's end, for more writes of the same iteration to come. Not on
 * a pipe: the program itself may print to the same place. */
static bool holds_back(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_WRITE_PIPE)
        return false;
    uint32_t iteration = (uint32_t)self->loop->core.stats.iterations;
    if (self->written_in != iteration) {
        self->written_in = iteration;
        self->flags |= PYHOOP_TRANSPORT_WROTE_ONCE;
    } else {
        self->flags &= ~(uint32_t)PYHOOP_TRANSPORT_WROTE_ONCE;
        self->flags |= PYHOOP_TRANSPORT_COALESCES;
    }
    bool may_gain = self->flags & PYHOOP_TRANSPORT_COALESCES ||
                    (self->loop->core.is_crowded && self->out.size < CROWD_LIMIT);
    return may_gain && self->out.size < DEFER_LIMIT && self->out.count < SEND_VECTOR &&
           pyhoop_loop_is_here(self->loop);
}

/* Something was queued: when does it go? */
static int dispatch_write(TransportObject *self) {
    if (self->flags & PYHOOP_TRANSPORT_BLOCKED)
        return pyhoop_transport_maybe_pause(self);
    if (!holds_back(self))
        return send_now(self);
    if (!self->flush.is_queued) {
        Py_INCREF(self);
        hoop_loop_defer(&self->loop->core, &self->flush);
    }
    return 0;
}

PyObject *pyhoop_transport_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    TransportObject *self = (TransportObject *)op;
    PyObject *data = pyhoop_one_argument("write", "data", args, nargs, kwnames);
    PyObject *bytes = data == NULL ? NULL : as_bytes(data);
    if (bytes == NULL)
        return NULL;
    if (check_can_write(self, "write", "write") < 0)
        goto error;
    if (PyBytes_GET_SIZE(bytes) == 0) {
        Py_DECREF(bytes);
        Py_RETURN_NONE;
    }
    if (drops(self)) {
        Py_DECREF(bytes);
        return pyhoop_transport_write_after_loss(self) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (pyhoop_outqueue_give(&self->out, bytes) < 0)
        goto error;
    if (dispatch_write(self) < 0)
        return NULL;
    Py_RETURN_NONE;

error:
    Py_DECREF(bytes);
    return NULL;
}

/* The same for writelines(), which takes any buffer, in asyncio too. */
static PyObject *buffer_as_bytes(PyObject *data) {
    if (PyBytes_CheckExact(data))
        return Py_NewRef(data);
    PyObject *view = PyMemoryView_FromObject(data);
    PyObject *bytes = view == NULL ? NULL : PyBytes_FromObject(view);
    Py_XDECREF(view);
    return bytes;
}

/* A list of bytes objects, none empty; all are checked before any is sent. */
static PyObject *as_bytes_list(PyObject *iterable) {
    PyObject *result = PyList_New(0);
    PyObject *iterator = result == NULL ? NULL : PyObject_GetIter(iterable);
    if (iterator == NULL) {
        Py_XDECREF(result);
        return NULL;
    }
    PyObject *data;
    while ((data = PyIter_Next(iterator)) != NULL) {
        PyObject *bytes = buffer_as_bytes(data);
        Py_DECREF(data);
        int rc = bytes == NULL                  ? -1
                 : PyBytes_GET_SIZE(bytes) == 0 ? 0
                                                : PyList_Append(result, bytes);
        Py_XDECREF(bytes);
        if (rc < 0)
            break;
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        Py_CLEAR(result);
    return result;
}

PyObject *pyhoop_transport_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames) {
    TransportObject *self = (TransportObject *)op;
    PyObject *iterable = pyhoop_one_argument("writelines", "list_of_data", args, nargs, kwnames);
    if (iterable == NULL)
        return NULL;
    if (check_can_write(self, "writelines", "writelines") < 0)
        return NULL;
    PyObject *list = as_bytes_list(iterable);
    if (list == NULL)
        return NULL;
    int rc = 0;
    Py_ssize_t count = PyList_GET_SIZE(list);
    if (count > 0 && drops(self)) {
        rc = pyhoop_transport_write_after_loss(self);
    } else if (count > 0) {
        for (Py_ssize_t i = 0; rc == 0 && i < count; i++) {
            PyObject *bytes = Py_NewRef(PyList_GET_ITEM(list, i));
            rc = pyhoop_outqueue_give(&self->out, bytes);
            if (rc < 0)
                Py_DECREF(bytes);
        }
        if (rc == 0)
            rc = dispatch_write(self);
    }
    Py_DECREF(list);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_transport_write_eof(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->flags & (PYHOOP_TRANSPORT_CLOSING | PYHOOP_TRANSPORT_EOF_WRITTEN))
        Py_RETURN_NONE;
    if (pyhoop_transport_flush_deferred(self) < 0)
        return NULL;
    if (self->conn_lost > 0)
        Py_RETURN_NONE;
    self->flags |= PYHOOP_TRANSPORT_EOF_WRITTEN;
    if (self->out.size == 0 && shut_down_writing(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_transport_get_write_buffer_size(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (pyhoop_transport_flush_deferred(self) < 0)
        return NULL;
    return PyLong_FromSize_t(self->out.size);
}

PyObject *pyhoop_transport_get_write_buffer_limits(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    return Py_BuildValue("(nn)", (Py_ssize_t)self->low_water, (Py_ssize_t)self->high_water);
}

/* `object` as a size, or `missing` when it is None. asyncio takes any number: fractions
 * are rounded down, which compares with a size as they would; what is too large is clipped. */
static int size_or(PyObject *object, Py_ssize_t missing, Py_ssize_t *size) {
    *size = missing;
    if (object == Py_None)
        return 0;
    if (!PyFloat_Check(object)) {
        *size = PyNumber_AsSsize_t(object, NULL);
        return *size == -1 && PyErr_Occurred() ? -1 : 0;
    }
    double number = floor(PyFloat_AS_DOUBLE(object));
    *size = number >= (double)PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX
            : number >= 0                    ? (Py_ssize_t)number
                                             : -1; /* NaN too: refused */
    return 0;
}

static Py_ssize_t quarter_of(Py_ssize_t size) {
    return size >= 0 ? size / 4 : -1 - (-1 - size) / 4; /* as Python's // */
}

PyObject *pyhoop_transport_set_write_buffer_limits(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"high", "low", NULL};
    TransportObject *self = (TransportObject *)op;
    PyObject *high_object = Py_None, *low_object = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", names,
                                     &high_object, &low_object))
        return NULL;
    Py_ssize_t low, high;
    if (size_or(low_object, -1, &low) < 0)
        return NULL;
    Py_ssize_t default_high = low_object == Py_None      ? DEFAULT_HIGH_WATER
                              : low > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX
                                                         : 4 * low;
    if (size_or(high_object, default_high, &high) < 0)
        return NULL;
    if (low_object == Py_None)
        low = quarter_of(high);
    if (!(high >= low && low >= 0)) {
        PyErr_Format(PyExc_ValueError, "high (%zd) must be >= low (%zd) must be >= 0", high, low);
        return NULL;
    }
    self->high_water = (size_t)high;
    self->low_water = (size_t)low;
    if (pyhoop_transport_maybe_pause(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_transport_make_empty_waiter(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    struct pyhoop_transport_rare *rare = pyhoop_transport_rare(self);
    if (rare == NULL)
        return NULL;
    if (rare->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (self->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Transport is closed");
        return NULL;
    }
    if (pyhoop_transport_flush_deferred(self) < 0)
        return NULL;
    PyObject *waiter =
        PyObject_CallMethodNoArgs((PyObject *)self->loop, self->loop->state->str_create_future);
    if (waiter == NULL)
        return NULL;
    if (self->out.size == 0) {
        PyObject *result =
            PyObject_CallMethodOneArg(waiter, self->loop->state->str_set_result, Py_None);
        if (result == NULL) {
            Py_DECREF(waiter);
            return NULL;
        }
        Py_DECREF(result);
    }
    Py_XSETREF(rare->empty_waiter, Py_NewRef(waiter));
    return waiter;
}

PyObject *pyhoop_transport_reset_empty_waiter(PyObject *op, PyObject *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    if (self->rare != NULL)
        Py_CLEAR(self->rare->empty_waiter);
    Py_RETURN_NONE;
}
