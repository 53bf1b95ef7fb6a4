/* SPDX-License-Identifier: MIT */
#include "py/stream.h"

/* ---- making ---- */

bool pyhoop_stream_is_usual_limit(PyObject *limit, Py_ssize_t *size) {
    if (!PyLong_CheckExact(limit))
        return false;
    Py_ssize_t number = PyLong_AsSsize_t(limit);
    if (number == -1 && PyErr_Occurred())
        PyErr_Clear(); /* OverflowError */
    if (number <= 0 || number > PY_SSIZE_T_MAX / 4)
        return false;
    *size = number;
    return true;
}

static PyObject *none_as_null(PyObject *object) {
    return object == Py_None ? NULL : Py_NewRef(object);
}

/* The values of the eight attributes, borrowed, and nothing else in `dict`. */
struct attributes {
    PyObject *loop, *waiter, *exception, *transport, *limit, *buffer, *eof, *paused;
};

static bool look_up(PyObject *dict, struct pyhoop_state *state, struct attributes *found) {
    found->loop = PyDict_GetItemWithError(dict, state->str__loop);
    found->waiter = PyDict_GetItemWithError(dict, state->str__waiter);
    found->exception = PyDict_GetItemWithError(dict, state->str__exception);
    found->transport = PyDict_GetItemWithError(dict, state->str__transport);
    found->limit = PyDict_GetItemWithError(dict, state->str__limit);
    found->buffer = PyDict_GetItemWithError(dict, state->str__buffer);
    found->eof = PyDict_GetItemWithError(dict, state->str__eof);
    found->paused = PyDict_GetItemWithError(dict, state->str__paused);
    return PyDict_GET_SIZE(dict) == 8 && found->loop != NULL && found->waiter != NULL &&
           found->exception != NULL && found->transport != NULL && found->limit != NULL &&
           found->buffer != NULL && found->eof != NULL && found->paused != NULL;
}

StreamObject *pyhoop_stream_new(LoopObject *loop, PyObject *dict) {
    struct pyhoop_state *state = loop->state;
    struct attributes found;
    Py_ssize_t limit;
    if (!look_up(dict, state, &found) || found.loop != (PyObject *)loop ||
        !pyhoop_stream_is_usual_limit(found.limit, &limit) ||
        !PyByteArray_CheckExact(found.buffer) || !PyBool_Check(found.eof) ||
        !PyBool_Check(found.paused))
        return NULL;
    StreamObject *self = (StreamObject *)state->stream_type->tp_alloc(state->stream_type, 0);
    if (self == NULL)
        return NULL;
    self->state = state;
    self->loop = Py_NewRef(found.loop);
    self->waiter = none_as_null(found.waiter);
    self->exception = none_as_null(found.exception);
    self->transport = none_as_null(found.transport);
    self->limit = limit;
    self->is_eof = found.eof == Py_True;
    self->is_paused = found.paused == Py_True;
    /* The bytearray itself: somebody may have it. */
    pyhoop_stream_buffer_replace(&self->buffer, found.buffer);
    return self;
}

/* ---- what changes it ---- */

/* set_result() of a future that is done raises; a cancelled one is left alone. */
static int forgive_cancelled(StreamObject *self, PyObject *waiter) {
    PyObject *exception = PyErr_GetRaisedException();
    PyObject *cancelled = PyObject_CallMethodNoArgs(waiter, self->state->str_cancelled);
    int is_cancelled = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (is_cancelled == 0)
        PyErr_SetRaisedException(exception);
    else
        Py_DECREF(exception);
    return is_cancelled == 1 ? 0 : -1;
}

int pyhoop_stream_wake(StreamObject *self) {
    PyObject *waiter = self->waiter;
    if (waiter == NULL)
        return 0;
    self->waiter = NULL;
    PyObject *result = PyObject_CallMethodOneArg(waiter, self->state->str_set_result, Py_None);
    int rc = result == NULL ? forgive_cancelled(self, waiter) : 0;
    Py_XDECREF(result);
    Py_DECREF(waiter);
    return rc;
}

static int call_transport(StreamObject *self, PyObject *method) {
    PyObject *transport = Py_NewRef(self->transport != NULL ? self->transport : Py_None);
    PyObject *result = PyObject_CallMethodNoArgs(transport, method);
    Py_DECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int pyhoop_stream_resume(StreamObject *self) {
    if (!self->is_paused)
        return 0;
    self->is_paused = false;
    return call_transport(self, self->state->str_resume_reading);
}

int pyhoop_stream_maybe_resume(StreamObject *self) {
    if (!self->is_paused || pyhoop_stream_buffer_size(&self->buffer) > self->limit)
        return 0;
    return pyhoop_stream_resume(self);
}

/* A transport that cannot be paused is forgotten, so as not to ask again. */
static int pause_transport(StreamObject *self) {
    if (call_transport(self, self->state->str_pause_reading) == 0) {
        self->is_paused = true;
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError))
        return -1;
    PyErr_Clear();
    Py_CLEAR(self->transport);
    return 0;
}

int pyhoop_stream_feed(StreamObject *self, PyObject *bytes) {
    if (pyhoop_stream_buffer_append(&self->buffer, bytes) < 0 || pyhoop_stream_wake(self) < 0)
        return -1;
    if (self->transport == NULL || self->is_paused ||
        pyhoop_stream_buffer_size(&self->buffer) <= 2 * self->limit)
        return 0;
    return pause_transport(self);
}

/* ---- memory ---- */

static int stream_traverse(PyObject *op, visitproc visit, void *arg) {
    StreamObject *self = (StreamObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->waiter);
    Py_VISIT(self->exception);
    Py_VISIT(self->transport);
    Py_VISIT(self->odd_limit);
    Py_VISIT(self->buffer.object);
    Py_VISIT(self->protocol_dict);
    Py_VISIT(self->reader_ref);
    return 0;
}

/* The loop stays: who still has the reader asks it things. It is in no cycle without others. */
static int stream_clear(PyObject *op) {
    StreamObject *self = (StreamObject *)op;
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->odd_limit);
    Py_CLEAR(self->protocol_dict);
    Py_CLEAR(self->reader_ref);
    pyhoop_stream_buffer_clear(&self->buffer);
    return 0;
}

static void stream_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)stream_clear(op);
    Py_CLEAR(((StreamObject *)op)->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, PyDoc_STR("What a stream reader in C has in place of attributes.")},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {0, NULL},
};

PyType_Spec pyhoop_stream_spec = {
    .name = "hoop._hoop.StreamState",
    .basicsize = sizeof(StreamObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = stream_slots,
};
