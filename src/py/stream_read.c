/* SPDX-License-Identifier: MIT
 *
 * stream_read: the awaitable that a reader's methods return, asyncio's coroutine in all but type.
 *
 * Lazy as a coroutine: nothing happens, not even an error, before it is awaited. To wait it
 * drives the iterator of a future of the loop, as `await` would.
 *
 * States: NEW -> RUNNING -> SUSPENDED -> RUNNING -> ... -> FINISHED. Whatever ends a wait takes
 * the waiter from the reader and, unless it was an exception, tries again.
 */
#include <string.h>

#include "py/awaitable.h"
#include "py/stream.h"

enum { MAX_SPARE_VALUE = 4096 };

typedef struct {
    PyObject_HEAD
    PyObject *reader; /* NULL when finished, as the rest */
    StreamObject *stream;
    PyObject *separator; /* NULL: a line feed */
    PyObject *blocks;    /* list, of reading all */
    PyObject *waiting;   /* iterator of the future, while suspended */
    PyObject *weakrefs;
    Py_ssize_t size;   /* asked for */
    Py_ssize_t offset; /* no separator begins before it */
    enum pyhoop_read_kind kind;
    enum pyhoop_await_state step;
    bool has_waited; /* since the last block */
} ReadObject;

PyObject *pyhoop_stream_read_new(StreamObject *stream, PyObject *reader, enum pyhoop_read_kind kind,
                                 Py_ssize_t size, PyObject *separator) {
    ReadObject *self = PyObject_GC_New(ReadObject, stream->state->stream_read_type);
    if (self == NULL)
        return NULL;
    self->reader = Py_NewRef(reader);
    self->stream = (StreamObject *)Py_NewRef((PyObject *)stream);
    self->separator = Py_XNewRef(separator);
    self->blocks = NULL;
    self->waiting = NULL;
    self->weakrefs = NULL;
    self->size = size;
    self->offset = 0;
    self->kind = kind;
    self->step = PYHOOP_AWAIT_NEW;
    self->has_waited = false;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* ---- errors ---- */

/* raise reader._exception */
static int raise_object(PyObject *exception) {
    if (PyExceptionInstance_Check(exception))
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    else if (PyExceptionClass_Check(exception))
        PyErr_SetNone(exception);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    return -1;
}

static int raise_stored(StreamObject *stream) {
    PyObject *exception = Py_NewRef(stream->exception);
    (void)raise_object(exception);
    Py_DECREF(exception);
    return -1;
}

/* The file ended first; `expected` NULL: None. */
static int raise_incomplete(StreamObject *stream, PyObject *expected) {
    struct pyhoop_stream_buffer *buffer = &stream->buffer;
    PyObject *partial = pyhoop_stream_buffer_take(buffer, pyhoop_stream_buffer_size(buffer));
    if (partial == NULL)
        return -1;
    PyObject *error =
        PyObject_CallFunctionObjArgs(stream->state->asyncio_incomplete_read_error, partial,
                                     expected != NULL ? expected : Py_None, NULL);
    Py_DECREF(partial);
    if (error == NULL)
        return -1;
    (void)raise_object(error);
    Py_DECREF(error);
    return -1;
}

static bool is_line(const ReadObject *self) {
    return self->kind == PYHOOP_READ_LINE || self->kind == PYHOOP_READ_NEXT;
}

/* readline() makes a ValueError of the LimitOverrunError, and drops the line, or all. */
static int raise_line_too_long(StreamObject *stream, PyObject *error, const char *message,
                               Py_ssize_t line_size) {
    if (pyhoop_stream_buffer_drop(&stream->buffer, line_size) == 0 &&
        pyhoop_stream_maybe_resume(stream) == 0)
        PyErr_SetString(PyExc_ValueError, message);
    PyObject *exception = PyErr_GetRaisedException();
    PyException_SetContext(error, PyException_GetContext(exception));
    PyException_SetContext(exception, Py_NewRef(error));
    PyErr_SetRaisedException(exception);
    return -1;
}

static int raise_overrun(ReadObject *self, bool is_found, Py_ssize_t consumed) {
    StreamObject *stream = self->stream;
    const char *message = is_found ? "Separator is found, but chunk is longer than limit"
                                   : "Separator is not found, and chunk exceed the limit";
    PyObject *error =
        PyObject_CallFunction(stream->state->asyncio_limit_overrun_error, "sn", message, consumed);
    if (error == NULL)
        return -1;
    if (is_line(self))
        (void)raise_line_too_long(stream, error, message,
                                  is_found ? consumed + 1
                                           : pyhoop_stream_buffer_size(&stream->buffer));
    else
        (void)raise_object(error);
    Py_DECREF(error);
    return -1;
}

/* ---- one attempt: 1 and `*result`, 0 if there is too little yet, or -1 ---- */

static int take(StreamObject *stream, Py_ssize_t size, PyObject **result) {
    *result = pyhoop_stream_buffer_take(&stream->buffer, size);
    if (*result != NULL && pyhoop_stream_maybe_resume(stream) < 0)
        Py_CLEAR(*result);
    return *result == NULL ? -1 : 1;
}

/* As much as there is, up to `most`; waits once at the most, as asyncio's does. */
static int try_some(ReadObject *self, Py_ssize_t most, PyObject **result) {
    StreamObject *stream = self->stream;
    Py_ssize_t size = pyhoop_stream_buffer_size(&stream->buffer);
    if (size == 0 && !stream->is_eof && !self->has_waited)
        return 0;
    return take(stream, size < most ? size : most, result);
}

static int join_blocks(ReadObject *self, PyObject **result) {
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    if (empty != NULL && self->blocks == NULL) {
        *result = empty;
        return 1;
    }
    *result = empty == NULL
                  ? NULL
                  : PyObject_CallMethodOneArg(empty, self->stream->state->str_join, self->blocks);
    Py_XDECREF(empty);
    return *result == NULL ? -1 : 1;
}

static int add_block(ReadObject *self, PyObject *block) {
    if (self->blocks == NULL)
        self->blocks = PyList_New(0);
    return self->blocks == NULL ? -1 : PyList_Append(self->blocks, block);
}

/* Blocks of the limit's size, until one is empty. */
static int try_all(ReadObject *self, PyObject **result) {
    StreamObject *stream = self->stream;
    for (;;) {
        PyObject *block;
        if (!self->has_waited && stream->exception != NULL)
            return raise_stored(stream);
        if (!self->has_waited)
            self->size = stream->limit;
        int rc = try_some(self, self->size, &block);
        if (rc <= 0)
            return rc;
        self->has_waited = false;
        bool is_end = PyBytes_GET_SIZE(block) == 0;
        rc = is_end ? 0 : add_block(self, block);
        Py_DECREF(block);
        if (rc < 0)
            return -1;
        if (is_end)
            return join_blocks(self, result);
    }
}

static int try_exactly(ReadObject *self, PyObject **result) {
    StreamObject *stream = self->stream;
    if (pyhoop_stream_buffer_size(&stream->buffer) >= self->size)
        return take(stream, self->size, result);
    if (!stream->is_eof)
        return 0;
    PyObject *expected = PyLong_FromSsize_t(self->size);
    if (expected != NULL)
        (void)raise_incomplete(stream, expected);
    Py_XDECREF(expected);
    return -1;
}

/* Where the separator begins, looking from `offset` on; -1: nowhere. */
static Py_ssize_t find_separator(const ReadObject *self, Py_ssize_t size) {
    const char *data = pyhoop_stream_buffer_peek(&self->stream->buffer);
    size_t rest = (size_t)(size - self->offset);
    const char *found = self->separator == NULL
                            ? memchr(data + self->offset, '\n', rest)
                            : memmem(data + self->offset, rest, PyBytes_AS_STRING(self->separator),
                                     (size_t)PyBytes_GET_SIZE(self->separator));
    return found == NULL ? -1 : found - data;
}

static int try_until(ReadObject *self, PyObject **result) {
    StreamObject *stream = self->stream;
    Py_ssize_t separator_size = self->separator == NULL ? 1 : PyBytes_GET_SIZE(self->separator);
    Py_ssize_t size = pyhoop_stream_buffer_size(&stream->buffer);
    if (size - self->offset >= separator_size) {
        Py_ssize_t found = find_separator(self, size);
        if (found > stream->limit)
            return raise_overrun(self, true, found);
        if (found >= 0)
            return take(stream, found + separator_size, result);
        self->offset = size + 1 - separator_size;
        if (self->offset > stream->limit)
            return raise_overrun(self, false, self->offset);
    }
    if (!stream->is_eof)
        return 0;
    if (!is_line(self))
        return raise_incomplete(stream, NULL);
    *result = pyhoop_stream_buffer_take(&stream->buffer, size);
    return *result == NULL ? -1 : 1;
}

static int try_next(ReadObject *self, PyObject **result) {
    int rc = try_until(self, result);
    if (rc != 1 || PyBytes_GET_SIZE(*result) > 0)
        return rc;
    Py_CLEAR(*result);
    PyErr_SetNone(PyExc_StopAsyncIteration);
    return -1;
}

static int attempt(ReadObject *self, PyObject **result) {
    switch (self->kind) {
    case PYHOOP_READ_SOME:
        return try_some(self, self->size, result);
    case PYHOOP_READ_ALL:
        return try_all(self, result);
    case PYHOOP_READ_EXACTLY:
        return try_exactly(self, result);
    case PYHOOP_READ_NEXT:
        return try_next(self, result);
    case PYHOOP_READ_UNTIL:
    case PYHOOP_READ_LINE:
        break;
    }
    return try_until(self, result);
}

/* ---- waiting ---- */

static const char *waiting_method(const ReadObject *self) {
    switch (self->kind) {
    case PYHOOP_READ_SOME:
    case PYHOOP_READ_ALL:
        return "read";
    case PYHOOP_READ_EXACTLY:
        return "readexactly";
    default:
        return "readuntil";
    }
}

/* A future for the feeder to complete; its iterator becomes `waiting`. */
static int begin_wait(ReadObject *self) {
    StreamObject *stream = self->stream;
    if (stream->waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s() called while another coroutine is already waiting for incoming data",
                     waiting_method(self));
        return -1;
    }
    if (pyhoop_stream_resume(stream) < 0)
        return -1;
    PyObject *waiter = PyObject_CallMethodNoArgs(stream->loop, stream->state->str_create_future);
    if (waiter == NULL)
        return -1;
    Py_XSETREF(stream->waiter, Py_NewRef(waiter));
    PyAsyncMethods *methods = Py_TYPE(waiter)->tp_as_async;
    if (methods != NULL && methods->am_await != NULL)
        self->waiting = methods->am_await(waiter);
    else
        PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
                     Py_TYPE(waiter)->tp_name);
    Py_DECREF(waiter);
    if (self->waiting == NULL)
        Py_CLEAR(stream->waiter);
    return self->waiting == NULL ? -1 : 0;
}

/* asyncio's `finally` around the wait. */
static void end_wait(ReadObject *self) {
    self->has_waited = true;
    Py_CLEAR(self->stream->waiter);
    Py_CLEAR(self->waiting);
}

/* ---- the steps ---- */

static void finish(ReadObject *self) {
    self->step = PYHOOP_AWAIT_FINISHED;
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->blocks);
    Py_CLEAR(self->separator);
    Py_CLEAR(self->stream);
    Py_CLEAR(self->reader);
}

static PySendResult fail(ReadObject *self) {
    PyObject *exception = PyErr_GetRaisedException();
    finish(self);
    PyErr_SetRaisedException(exception);
    return PYGEN_ERROR;
}

/* Tries until it has to wait. */
static PySendResult proceed(ReadObject *self, PyObject **result) {
    for (;;) {
        int rc = attempt(self, result);
        if (rc < 0)
            return fail(self);
        if (rc == 1) {
            finish(self);
            return PYGEN_RETURN;
        }
        if (begin_wait(self) < 0)
            return fail(self);
        PySendResult status = PyIter_Send(self->waiting, Py_None, result);
        if (status == PYGEN_NEXT) {
            self->step = PYHOOP_AWAIT_SUSPENDED;
            return status;
        }
        end_wait(self);
        if (status == PYGEN_ERROR)
            return fail(self);
        Py_CLEAR(*result);
    }
}

/* What the future's iterator did when it was resumed. */
static PySendResult resumed(ReadObject *self, PySendResult status, PyObject **result) {
    if (status == PYGEN_NEXT) {
        self->step = PYHOOP_AWAIT_SUSPENDED;
        return status;
    }
    end_wait(self);
    if (status == PYGEN_ERROR)
        return fail(self);
    Py_CLEAR(*result);
    return proceed(self, result);
}

static PySendResult begin(ReadObject *self, PyObject **result) {
    self->step = PYHOOP_AWAIT_RUNNING;
    bool looks_each_time = self->kind == PYHOOP_READ_ALL;
    if (!looks_each_time && self->stream->exception != NULL) {
        (void)raise_stored(self->stream);
        return fail(self);
    }
    if (self->size == 0 && (self->kind == PYHOOP_READ_SOME || self->kind == PYHOOP_READ_EXACTLY)) {
        finish(self);
        *result = PyBytes_FromStringAndSize(NULL, 0);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    return proceed(self, result);
}

static PySendResult read_am_send(PyObject *op, PyObject *value, PyObject **result) {
    ReadObject *self = (ReadObject *)op;
    *result = NULL;
    if (!pyhoop_await_may_send(self->step, value))
        return PYGEN_ERROR;
    Py_INCREF(op); /* what runs may drop the last other reference */
    PySendResult status;
    if (self->step == PYHOOP_AWAIT_NEW) {
        status = begin(self, result);
    } else {
        self->step = PYHOOP_AWAIT_RUNNING;
        status = resumed(self, PyIter_Send(self->waiting, value, result), result);
    }
    Py_DECREF(op);
    return status;
}

/* ---- as an object ---- */

/* A returned value becomes StopIteration. */
static PyObject *as_iteration(PySendResult status, PyObject *result) {
    return status == PYGEN_RETURN ? pyhoop_await_stop(result) : result;
}

/* Whether nobody has it, or has had it where exceptions gather tracebacks and the like. */
static bool is_pristine(PyObject *stop) {
    const PyBaseExceptionObject *base = (const PyBaseExceptionObject *)stop;
    return Py_REFCNT(stop) == 1 && base->traceback == NULL && base->context == NULL &&
           base->cause == NULL && base->dict == NULL;
}

/* `await` takes the value off the StopIteration and lets go of it, so one will do for all: making
 * one costs a third of reading a line that is there. True if it was free, and is raised; it keeps
 * the value until the next time, so large ones get one of their own. */
static bool stop_by_spare(PyObject *op, PyObject *value) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state == NULL || PyBytes_GET_SIZE(value) > MAX_SPARE_VALUE)
        return false;
    if (state->spare_stop == NULL)
        state->spare_stop = PyObject_CallNoArgs(PyExc_StopIteration);
    bool is_free = state->spare_stop != NULL && is_pristine(state->spare_stop);
    PyObject *args = is_free ? PyTuple_Pack(1, value) : NULL;
    if (args == NULL) {
        PyErr_Clear(); /* MemoryError */
        Py_CLEAR(state->spare_stop);
        return false;
    }
    PyStopIterationObject *stop = (PyStopIterationObject *)state->spare_stop;
    Py_XSETREF(stop->args, args);
    Py_XSETREF(stop->value, value);
    PyErr_SetRaisedException(Py_NewRef((PyObject *)stop));
    return true;
}

static PyObject *read_iternext(PyObject *op) {
    PyObject *result;
    PySendResult status = read_am_send(op, Py_None, &result);
    if (status == PYGEN_RETURN && PYHOOP_REUSES_STOP_ITERATION && stop_by_spare(op, result))
        return NULL;
    return as_iteration(status, result);
}

static PyObject *read_send(PyObject *op, PyObject *value) {
    PyObject *result;
    PySendResult status = read_am_send(op, value, &result);
    return as_iteration(status, result);
}

/* Throws into what it waits for, which raises it, or goes on. */
static PySendResult throw_into_wait(ReadObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject **result) {
    self->step = PYHOOP_AWAIT_RUNNING;
    *result = pyhoop_await_throw_into(self->waiting, self->stream->state->str_throw, args, nargs);
    if (*result != NULL)
        return resumed(self, PYGEN_NEXT, result);
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return resumed(self, PYGEN_ERROR, result);
    PyErr_Clear();
    return resumed(self, PYGEN_RETURN, result);
}

static PyObject *read_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    ReadObject *self = (ReadObject *)op;
    if (!pyhoop_await_may_throw(args, nargs) || !pyhoop_await_may_send(self->step, Py_None))
        return NULL;
    PyObject *result = NULL;
    PySendResult status = PYGEN_ERROR;
    Py_INCREF(op);
    if (self->step == PYHOOP_AWAIT_SUSPENDED) {
        status = throw_into_wait(self, args, nargs, &result);
    } else {
        finish(self);
        pyhoop_await_raise(args, nargs);
    }
    Py_DECREF(op);
    return as_iteration(status, result);
}

/* The wait ends without a next attempt. */
static void abandon_wait(ReadObject *self) {
    self->step = PYHOOP_AWAIT_RUNNING;
    end_wait(self);
    finish(self);
}

static PyObject *read_close(PyObject *op, PyObject *unused) {
    (void)unused;
    ReadObject *self = (ReadObject *)op;
    if (!pyhoop_await_may_close(self->step))
        return NULL;
    Py_INCREF(op);
    if (self->step == PYHOOP_AWAIT_SUSPENDED)
        abandon_wait(self);
    else
        finish(self);
    Py_DECREF(op);
    Py_RETURN_NONE;
}

static const char *name_of(const ReadObject *self) {
    switch (self->kind) {
    case PYHOOP_READ_SOME:
    case PYHOOP_READ_ALL:
        return "read";
    case PYHOOP_READ_EXACTLY:
        return "readexactly";
    case PYHOOP_READ_UNTIL:
        return "readuntil";
    case PYHOOP_READ_LINE:
        return "readline";
    case PYHOOP_READ_NEXT:
        break;
    }
    return "__anext__";
}

static PyObject *get_name(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromString(name_of((ReadObject *)op));
}

static PyObject *get_qualname(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromFormat("StreamReader.%s", name_of((ReadObject *)op));
}

static PyObject *get_running(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(((ReadObject *)op)->step == PYHOOP_AWAIT_RUNNING);
}

static PyObject *read_repr(PyObject *op) {
    return PyUnicode_FromFormat("<coroutine object StreamReader.%s at %p>",
                                name_of((ReadObject *)op), op);
}

/* ---- memory ---- */

static int read_traverse(PyObject *op, visitproc visit, void *arg) {
    ReadObject *self = (ReadObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->reader);
    Py_VISIT(self->stream);
    Py_VISIT(self->blocks);
    Py_VISIT(self->waiting);
    return 0;
}

static int read_clear(PyObject *op) {
    finish((ReadObject *)op);
    return 0;
}

static void read_finalize(PyObject *op) {
    ReadObject *self = (ReadObject *)op;
    PyObject *exception = PyErr_GetRaisedException();
    if (self->step == PYHOOP_AWAIT_NEW) {
        PyObject *name = get_qualname(op, NULL);
        pyhoop_await_warn(op, name);
        Py_XDECREF(name);
    } else if (self->step == PYHOOP_AWAIT_SUSPENDED) {
        abandon_wait(self);
    }
    if (exception != NULL)
        PyErr_SetRaisedException(exception);
}

static void read_dealloc(PyObject *op) {
    ReadObject *self = (ReadObject *)op;
    if (self->step != PYHOOP_AWAIT_FINISHED && PyObject_CallFinalizerFromDealloc(op) < 0)
        return; /* somebody holds it again */
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    finish(self);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyMethodDef read_methods[] = {
    {"send", read_send, METH_O, PyDoc_STR("send($self, value, /)\n--\n\nDrive it on.")},
    {"throw", (PyCFunction)(void (*)(void))read_throw, METH_FASTCALL,
     PyDoc_STR("throw($self, type, value=None, traceback=None, /)\n--\n\nRaise in it.")},
    {"close", read_close, METH_NOARGS, PyDoc_STR("close($self)\n--\n\nEnd it.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef read_getset[] = {
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_qualname, NULL, NULL, NULL},
    {"cr_running", get_running, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef read_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(ReadObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *read_await(PyObject *op) {
    return Py_NewRef(op);
}

static PyType_Slot read_slots[] = {
    {Py_tp_doc, PyDoc_STR("A coroutine in C: one operation of a stream reader.")},
    {Py_tp_dealloc, read_dealloc},
    {Py_tp_finalize, read_finalize},
    {Py_tp_traverse, read_traverse},
    {Py_tp_clear, read_clear},
    {Py_tp_repr, read_repr},
    {Py_tp_iter, read_await}, /* for `yield from operation.__await__()` */
    {Py_tp_iternext, read_iternext},
    {Py_am_await, read_await},
    {Py_am_send, read_am_send},
    {Py_tp_methods, read_methods},
    {Py_tp_getset, read_getset},
    {Py_tp_members, read_members},
    {0, NULL},
};

PyType_Spec pyhoop_stream_read_spec = {
    .name = "hoop._hoop.StreamRead",
    .basicsize = sizeof(ReadObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = read_slots,
};
