/* SPDX-License-Identifier: MIT
 *
 * stream_guard: has somebody replaced a method of asyncio's stream classes?
 *
 * A class's version tag changes with it and with its bases. The tag of the last time all
 * was found as it should be answers nearly every question by one comparison.
 */
#include "py/stream.h"

static const char *const reader_names[] = {
    "__anext__",      "_maybe_resume_transport",
    "_wait_for_data", "_wakeup_waiter",
    "at_eof",         "exception",
    "feed_data",      "feed_eof",
    "read",           "readexactly",
    "readline",       "readuntil",
    "set_exception",
};
static const char *const protocol_names[] = {"_stream_reader", "data_received"};

/* A function defined in asyncio.streams, or a property of one. */
static bool is_of_asyncio(PyObject *object, PyObject *globals) {
    PyObject *function = Py_NewRef(object);
    if (Py_TYPE(object) == &PyProperty_Type) {
        Py_DECREF(function);
        function = PyObject_GetAttrString(object, "fget");
    }
    bool is_own = function != NULL && PyFunction_Check(function) &&
                  PyFunction_GetGlobals(function) == globals;
    Py_XDECREF(function);
    PyErr_Clear(); /* AttributeError */
    return is_own;
}

/* Notes what `class_` has under `names`: (class, name, value) for each. */
static int note(PyObject *list, PyObject *class_, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        PyObject *value = PyObject_GetAttrString(class_, names[i]);
        if (value == NULL) { /* another Python's asyncio: not what we know */
            PyErr_Clear();
            value = Py_NewRef(Py_None);
        }
        PyObject *entry = Py_BuildValue("(OsN)", class_, names[i], value);
        int rc = entry == NULL ? -1 : PyList_Append(list, entry);
        Py_XDECREF(entry);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static bool are_of_asyncio(PyObject *list, PyObject *globals) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (!is_of_asyncio(PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 2), globals))
            return false;
    }
    return true;
}

static PyObject *name_set(void) {
    PyObject *names = PyFrozenSet_New(NULL);
    for (size_t i = 0; names != NULL && i < Py_ARRAY_LENGTH(reader_names); i++) {
        PyObject *name = PyUnicode_InternFromString(reader_names[i]);
        if (name == NULL || PySet_Add(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

int pyhoop_stream_guard_init(struct pyhoop_state *state) {
    PyObject *streams = PyImport_ImportModule("asyncio.streams");
    if (streams == NULL)
        return -1;
    PyObject *globals = PyModule_GetDict(streams);
    struct pyhoop_guard *reader = &state->guards[PYHOOP_GUARDED_READER];
    struct pyhoop_guard *protocol = &state->guards[PYHOOP_GUARDED_PROTOCOL];
    reader->type = state->stream_reader_type;
    reader->expected = PyList_New(0);
    protocol->type = (PyTypeObject *)state->asyncio_stream_reader_protocol;
    protocol->expected = PyList_New(0);
    state->stream_method_names = name_set();
    int rc = -1;
    if (reader->expected != NULL && protocol->expected != NULL &&
        state->stream_method_names != NULL &&
        note(reader->expected, state->asyncio_stream_reader, reader_names,
             Py_ARRAY_LENGTH(reader_names)) == 0 &&
        note(protocol->expected, state->asyncio_stream_reader_protocol, protocol_names,
             Py_ARRAY_LENGTH(protocol_names)) == 0) {
        rc = 0;
        /* Somebody was here before hoop: streams stay as they are. */
        state->streams_are_stock = are_of_asyncio(reader->expected, globals) &&
                                   are_of_asyncio(protocol->expected, globals);
    }
    if (rc == 0)
        rc = note(reader->expected, (PyObject *)state->stream_reader_type, reader_names,
                  Py_ARRAY_LENGTH(reader_names));
    Py_DECREF(streams);
    return rc;
}

/* Looks at every method. Errors count as a difference. */
static bool verify(struct pyhoop_guard *guard) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(guard->expected); i++) {
        PyObject *entry = PyList_GET_ITEM(guard->expected, i);
        PyObject *value = PyObject_GetAttr(PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1));
        bool is_same = value == PyTuple_GET_ITEM(entry, 2);
        Py_XDECREF(value);
        if (!is_same) {
            PyErr_Clear(); /* AttributeError */
            return false;
        }
    }
    guard->tag = guard->type->tp_version_tag; /* 0 if Python has run out of tags */
    return true;
}

bool pyhoop_stream_guard_holds(struct pyhoop_state *state, enum pyhoop_guarded guarded) {
    struct pyhoop_guard *guard = &state->guards[guarded];
    unsigned int tag = guard->type->tp_version_tag;
    return (tag != 0 && tag == guard->tag) || verify(guard);
}

int pyhoop_stream_guard_names(struct pyhoop_state *state, PyObject *name) {
    return PySet_Contains(state->stream_method_names, name);
}
