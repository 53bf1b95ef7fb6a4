/* SPDX-License-Identifier: MIT */
#include "py/stream.h"

/* ---- from a reader to its state ---- */

StreamObject *pyhoop_stream_of_reader(PyObject *reader, struct pyhoop_state *state) {
    PyObject *stream = PyObject_GenericGetAttr(reader, state->str__hoop_stream);
    if (stream == NULL || Py_TYPE(stream) == state->stream_type)
        return (StreamObject *)stream;
    PyErr_SetString(PyExc_AttributeError, "_hoop_stream was replaced");
    Py_DECREF(stream);
    return NULL;
}

static StreamObject *stream_of(PyObject *reader) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    return state == NULL ? NULL : pyhoop_stream_of_reader(reader, state);
}

/* ---- adoption ---- */

/* The eight attributes are the state's from now on. */
static int move_in(PyObject *reader, PyObject *dict, StreamObject *stream) {
    struct pyhoop_state *state = stream->state;
    PyObject *names[] = {state->str__loop,      state->str__waiter, state->str__exception,
                         state->str__transport, state->str__limit,  state->str__buffer,
                         state->str__eof,       state->str__paused};
    if (PyDict_SetItem(dict, state->str__hoop_stream, (PyObject *)stream) < 0)
        return -1;
    if (PyObject_SetAttr(reader, state->str___class__, (PyObject *)state->stream_reader_type) < 0) {
        PyObject *exception = PyErr_GetRaisedException();
        if (PyDict_DelItem(dict, state->str__hoop_stream) < 0)
            PyErr_Clear();
        PyErr_SetRaisedException(exception);
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (PyDict_DelItem(dict, names[i]) < 0)
            return -1;
    }
    return 0;
}

StreamObject *pyhoop_stream_adopt(PyObject *reader, LoopObject *loop) {
    PyObject *dict = PyObject_GenericGetDict(reader, NULL);
    StreamObject *stream = dict == NULL ? NULL : pyhoop_stream_new(loop, dict);
    if (stream != NULL && move_in(reader, dict, stream) < 0) {
        Py_CLEAR(stream);
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Clear(); /* somebody gave the class another layout */
    }
    Py_XDECREF(dict);
    return stream;
}

/* type(reader)(...) is asyncio's reader, as it would be without us. */
static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    struct pyhoop_state *state = PyType_GetModuleState(type);
    return state == NULL ? NULL : PyObject_Call(state->asyncio_stream_reader, args, kwargs);
}

/* ---- methods ---- */

/* As a METH_FASTCALL | METH_KEYWORDS method gets them. */
struct arguments {
    PyObject *const *values;
    Py_ssize_t count;
    PyObject *kwnames;
};

static bool is_plain(const struct arguments *arguments, Py_ssize_t most) {
    return arguments->kwnames == NULL && arguments->count <= most;
}

/* asyncio's own method of that name, or what somebody has put in its place. */
static PyObject *call_asyncio(PyObject *reader, struct pyhoop_state *state, PyObject *name,
                              const struct arguments *arguments) {
    PyObject *function = PyObject_GetAttr(state->asyncio_stream_reader, name);
    if (function == NULL)
        return NULL;
    Py_ssize_t count =
        arguments->count + (arguments->kwnames == NULL ? 0 : PyTuple_GET_SIZE(arguments->kwnames));
    PyObject **all = PyMem_New(PyObject *, (size_t)count + 1);
    PyObject *result = NULL;
    if (all == NULL) {
        PyErr_NoMemory();
    } else {
        all[0] = reader;
        for (Py_ssize_t i = 0; i < count; i++)
            all[1 + i] = arguments->values[i];
        result =
            PyObject_Vectorcall(function, all, (size_t)arguments->count + 1, arguments->kwnames);
        PyMem_Free(all);
    }
    Py_DECREF(function);
    return result;
}

/* The state, new reference, if C may act for asyncio's methods; else NULL. */
static StreamObject *ours(PyObject *reader, struct pyhoop_state *state) {
    StreamObject *stream = pyhoop_stream_of_reader(reader, state);
    if (stream != NULL && !pyhoop_stream_is_ours(stream))
        Py_CLEAR(stream);
    return stream;
}

/* What a method that reads returns: an awaitable of ours for `size` bytes or up to
 * `separator` if the arguments are usual, else what asyncio's method returns. */
static PyObject *read_by(PyObject *reader, struct pyhoop_state *state, PyObject *name,
                         const struct arguments *arguments, bool is_usual,
                         enum pyhoop_read_kind kind, Py_ssize_t size, PyObject *separator) {
    StreamObject *stream = is_usual ? ours(reader, state) : NULL;
    if (stream == NULL)
        return PyErr_Occurred() ? NULL : call_asyncio(reader, state, name, arguments);
    PyObject *read = pyhoop_stream_read_new(stream, reader, kind, size, separator);
    Py_DECREF(stream);
    return read;
}

/* The only argument as a number of bytes; false if it is none. */
static bool is_size(const struct arguments *arguments, Py_ssize_t *size) {
    if (!is_plain(arguments, 1) || arguments->count == 0 ||
        !PyLong_CheckExact(arguments->values[0]))
        return false;
    *size = PyLong_AsSsize_t(arguments->values[0]);
    if (*size != -1 || !PyErr_Occurred())
        return true;
    PyErr_Clear(); /* OverflowError */
    return false;
}

static PyObject *reader_read(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    Py_ssize_t size = -1;
    bool is_usual = is_plain(&arguments, 0) || is_size(&arguments, &size);
    return read_by(reader, state, state->str_read, &arguments, is_usual,
                   size < 0 ? PYHOOP_READ_ALL : PYHOOP_READ_SOME, size, NULL);
}

static PyObject *reader_readexactly(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    Py_ssize_t size = -1;
    bool is_usual = is_size(&arguments, &size) && size >= 0;
    return read_by(reader, state, state->str_readexactly, &arguments, is_usual, PYHOOP_READ_EXACTLY,
                   size, NULL);
}

static PyObject *reader_readuntil(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    PyObject *separator = nargs > 0 ? args[0] : NULL;
    bool is_usual =
        is_plain(&arguments, 1) &&
        (separator == NULL || (PyBytes_CheckExact(separator) && PyBytes_GET_SIZE(separator) > 0));
    return read_by(reader, state, state->str_readuntil, &arguments, is_usual, PYHOOP_READ_UNTIL, 0,
                   separator);
}

static PyObject *reader_readline(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    return read_by(reader, state, state->str_readline, &arguments, is_plain(&arguments, 0),
                   PYHOOP_READ_LINE, 0, NULL);
}

static PyObject *reader_anext(PyObject *reader) {
    const struct arguments arguments = {NULL, 0, NULL};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    return read_by(reader, state, state->str___anext__, &arguments, true, PYHOOP_READ_NEXT, 0,
                   NULL);
}

static PyObject *reader_feed_data(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    StreamObject *stream = ours(reader, state);
    bool is_usual = stream != NULL && nargs == 1 && kwnames == NULL &&
                    PyBytes_CheckExact(args[0]) && PyBytes_GET_SIZE(args[0]) > 0 && !stream->is_eof;
    PyObject *result = NULL;
    if (is_usual)
        result = pyhoop_stream_feed(stream, args[0]) < 0 ? NULL : Py_NewRef(Py_None);
    else if (!PyErr_Occurred())
        result = call_asyncio(reader, state, state->str_feed_data, &arguments);
    Py_XDECREF(stream);
    return result;
}

static PyObject *reader_feed_eof(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    StreamObject *stream = is_plain(&arguments, 0) ? ours(reader, state) : NULL;
    if (stream == NULL)
        return PyErr_Occurred() ? NULL
                                : call_asyncio(reader, state, state->str_feed_eof, &arguments);
    stream->is_eof = true;
    int rc = pyhoop_stream_wake(stream);
    Py_DECREF(stream);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *reader_at_eof(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    StreamObject *stream = is_plain(&arguments, 0) ? ours(reader, state) : NULL;
    if (stream == NULL)
        return PyErr_Occurred() ? NULL : call_asyncio(reader, state, state->str_at_eof, &arguments);
    bool is_at_end = stream->is_eof && pyhoop_stream_buffer_size(&stream->buffer) == 0;
    Py_DECREF(stream);
    return PyBool_FromLong(is_at_end);
}

static PyObject *reader_exception(PyObject *reader, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    const struct arguments arguments = {args, nargs, kwnames};
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    if (state == NULL)
        return NULL;
    StreamObject *stream = is_plain(&arguments, 0) ? ours(reader, state) : NULL;
    if (stream == NULL)
        return PyErr_Occurred() ? NULL
                                : call_asyncio(reader, state, state->str_exception, &arguments);
    PyObject *exception = Py_NewRef(stream->exception != NULL ? stream->exception : Py_None);
    Py_DECREF(stream);
    return exception;
}

/* ---- attributes ---- */

/* Somebody gave this very reader a method of theirs: asyncio's others have to call it. */
static int reader_setattro(PyObject *reader, PyObject *name, PyObject *value) {
    if (PyObject_GenericSetAttr(reader, name, value) < 0)
        return -1;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(reader));
    int is_method = state == NULL ? -1 : pyhoop_stream_guard_names(state, name);
    StreamObject *stream = is_method <= 0 ? NULL : pyhoop_stream_of_reader(reader, state);
    if (stream != NULL)
        stream->defers_to_asyncio = true;
    else if (is_method != 0)
        return -1;
    Py_XDECREF(stream);
    return 0;
}

static int refuse_delete(void) {
    PyErr_SetString(PyExc_AttributeError, "a stream reader's attributes cannot be deleted");
    return -1;
}

/* For the attributes that are an object or None: `field` is its place in the state. */
static PyObject **field_of(StreamObject *stream, void *field) {
    return (PyObject **)(void *)((char *)stream + (uintptr_t)field);
}

static PyObject *get_object(PyObject *reader, void *field) {
    StreamObject *stream = stream_of(reader);
    if (stream == NULL)
        return NULL;
    PyObject *value = *field_of(stream, field);
    PyObject *result = Py_NewRef(value != NULL ? value : Py_None);
    Py_DECREF(stream);
    return result;
}

static int set_object(PyObject *reader, PyObject *value, void *field) {
    StreamObject *stream = value == NULL ? NULL : stream_of(reader);
    if (stream == NULL)
        return value == NULL ? refuse_delete() : -1;
    Py_XSETREF(*field_of(stream, field), value == Py_None ? NULL : Py_NewRef(value));
    Py_DECREF(stream);
    return 0;
}

static int set_loop(PyObject *reader, PyObject *value, void *unused) {
    (void)unused;
    StreamObject *stream = value == NULL ? NULL : stream_of(reader);
    if (stream == NULL)
        return value == NULL ? refuse_delete() : -1;
    if (!PyObject_TypeCheck(value, stream->state->loop_type))
        stream->defers_to_asyncio = true;
    Py_XSETREF(stream->loop, Py_NewRef(value));
    Py_DECREF(stream);
    return 0;
}

static PyObject *get_flag(PyObject *reader, void *field) {
    StreamObject *stream = stream_of(reader);
    if (stream == NULL)
        return NULL;
    bool flag = *(bool *)((char *)stream + (uintptr_t)field);
    Py_DECREF(stream);
    return PyBool_FromLong(flag);
}

static int set_flag(PyObject *reader, PyObject *value, void *field) {
    int flag = value == NULL ? refuse_delete() : PyObject_IsTrue(value);
    StreamObject *stream = flag < 0 ? NULL : stream_of(reader);
    if (stream == NULL)
        return -1;
    *(bool *)((char *)stream + (uintptr_t)field) = flag != 0;
    Py_DECREF(stream);
    return 0;
}

static PyObject *get_limit(PyObject *reader, void *unused) {
    (void)unused;
    StreamObject *stream = stream_of(reader);
    if (stream == NULL)
        return NULL;
    PyObject *limit = stream->odd_limit != NULL ? Py_NewRef(stream->odd_limit)
                                                : PyLong_FromSsize_t(stream->limit);
    Py_DECREF(stream);
    return limit;
}

static int set_limit(PyObject *reader, PyObject *value, void *unused) {
    (void)unused;
    StreamObject *stream = value == NULL ? NULL : stream_of(reader);
    if (stream == NULL)
        return value == NULL ? refuse_delete() : -1;
    bool is_usual = pyhoop_stream_is_usual_limit(value, &stream->limit);
    if (!is_usual)
        stream->defers_to_asyncio = true;
    Py_XSETREF(stream->odd_limit, is_usual ? NULL : Py_NewRef(value));
    Py_DECREF(stream);
    return 0;
}

static PyObject *get_buffer(PyObject *reader, void *unused) {
    (void)unused;
    StreamObject *stream = stream_of(reader);
    if (stream == NULL)
        return NULL;
    PyObject *buffer = pyhoop_stream_buffer_show(&stream->buffer);
    Py_DECREF(stream);
    return buffer;
}

static int set_buffer(PyObject *reader, PyObject *value, void *unused) {
    (void)unused;
    if (value == NULL)
        return refuse_delete();
    if (!PyByteArray_Check(value)) {
        PyErr_Format(PyExc_TypeError, "_buffer must be a bytearray, not %.200s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    StreamObject *stream = stream_of(reader);
    if (stream == NULL)
        return -1;
    pyhoop_stream_buffer_replace(&stream->buffer, value);
    Py_DECREF(stream);
    return 0;
}

/* ---- the type ---- */

#define METHOD(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef reader_methods[] = {
    {"read", METHOD(reader_read),
     PyDoc_STR("read($self, n=-1)\n--\n\nUp to n bytes, as soon as there are some; all until the "
               "end if n is negative.\nasyncio.StreamReader.read.")},
    {"readexactly", METHOD(reader_readexactly),
     PyDoc_STR("readexactly($self, n)\n--\n\nExactly n bytes. asyncio.StreamReader.readexactly.")},
    {"readuntil", METHOD(reader_readuntil),
     PyDoc_STR("readuntil($self, separator=b'\\n')\n--\n\nBytes up to the separator and with it. "
               "asyncio.StreamReader.readuntil.")},
    {"readline", METHOD(reader_readline),
     PyDoc_STR("readline($self)\n--\n\nBytes up to a line feed and with it. "
               "asyncio.StreamReader.readline.")},
    {"exception", METHOD(reader_exception),
     PyDoc_STR("exception($self)\n--\n\nWhat set_exception() was given, or None. "
               "asyncio.StreamReader.exception.")},
    {"feed_data", METHOD(reader_feed_data),
     PyDoc_STR("feed_data($self, data)\n--\n\nAdd bytes. asyncio.StreamReader.feed_data.")},
    {"feed_eof", METHOD(reader_feed_eof),
     PyDoc_STR("feed_eof($self)\n--\n\nNo more bytes come. asyncio.StreamReader.feed_eof.")},
    {"at_eof", METHOD(reader_at_eof),
     PyDoc_STR("at_eof($self)\n--\n\nWhether nothing is left and nothing comes. "
               "asyncio.StreamReader.at_eof.")},
    {NULL, NULL, 0, NULL},
};

#define OBJECT(name, setter, field)                                                                \
    {name, get_object, setter, NULL, (void *)(uintptr_t)offsetof(StreamObject, field)}
#define FLAG(name, field)                                                                          \
    {name, get_flag, set_flag, NULL, (void *)(uintptr_t)offsetof(StreamObject, field)}

static PyGetSetDef reader_getset[] = {
    OBJECT("_loop", set_loop, loop),
    OBJECT("_waiter", set_object, waiter),
    OBJECT("_exception", set_object, exception),
    OBJECT("_transport", set_object, transport),
    FLAG("_eof", is_eof),
    FLAG("_paused", is_paused),
    {"_limit", get_limit, set_limit, NULL, NULL},
    {"_buffer", get_buffer, set_buffer, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_new, reader_new},         {Py_tp_setattro, reader_setattro},
    {Py_tp_methods, reader_methods}, {Py_tp_getset, reader_getset},
    {Py_am_anext, reader_anext},     {0, NULL},
};

/* No size of its own, and the name of its base, which it is to everybody who looks. */
PyType_Spec pyhoop_stream_reader_spec = {
    .name = "asyncio.streams.StreamReader",
    .basicsize = 0,
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = reader_slots,
};
