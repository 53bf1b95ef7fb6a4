/* SPDX-License-Identifier: MIT
 *
 * stream_feed: from a transport to its reader, past StreamReaderProtocol.
 *
 * What asyncio's protocol would do with received bytes is done without a Python frame, as
 * long as it is asyncio's protocol unchanged: its class, its methods, its own `data_received`
 * (there is none in its dictionary), and the reader it refers to. All that is looked at each
 * time, for each can change at any time.
 */
#include "py/stream.h"

/* The reader to feed, new reference, with the protocol's dictionary and weak reference. NULL
 * without an exception if the protocol is not to be bypassed. */
static PyObject *reader_of_protocol(PyObject *dict, struct pyhoop_state *state, PyObject **ref) {
    PyObject *own = PyDict_GetItemWithError(dict, state->str_data_received);
    if (own != NULL || PyErr_Occurred())
        return NULL;
    *ref = PyDict_GetItemWithError(dict, state->str__stream_reader_wr);
    if (*ref == NULL || !PyWeakref_CheckRefExact(*ref))
        return NULL;
    PyObject *reader;
    return PyWeakref_GetRef(*ref, &reader) > 0 ? reader : NULL;
}

static StreamObject *state_of(PyObject *reader, LoopObject *loop) {
    if (Py_TYPE(reader) == loop->state->stream_reader_type)
        return pyhoop_stream_of_reader(reader, loop->state);
    if ((PyObject *)Py_TYPE(reader) == loop->state->asyncio_stream_reader)
        return pyhoop_stream_adopt(reader, loop);
    return NULL;
}

static bool is_asyncio_protocol(PyObject *protocol, struct pyhoop_state *state) {
    return (PyObject *)Py_TYPE(protocol) == state->asyncio_stream_reader_protocol &&
           pyhoop_stream_guard_holds(state, PYHOOP_GUARDED_PROTOCOL);
}

int pyhoop_stream_attach(TransportObject *transport) {
    LoopObject *loop = transport->loop;
    if (PYHOOP_FREE_THREADED || !loop->accelerates_streams || loop->is_debug ||
        !is_asyncio_protocol(transport->protocol, loop->state) ||
        !pyhoop_stream_guard_holds(loop->state, PYHOOP_GUARDED_READER))
        return 0;
    PyObject *dict = PyObject_GenericGetDict(transport->protocol, NULL);
    PyObject *ref;
    PyObject *reader = dict == NULL ? NULL : reader_of_protocol(dict, loop->state, &ref);
    StreamObject *stream = reader == NULL ? NULL : state_of(reader, loop);
    if (stream != NULL && stream->feeder == NULL) {
        stream->feeder = transport;
        stream->protocol_dict = Py_NewRef(dict);
        stream->reader_ref = Py_NewRef(ref);
        transport->stream = (StreamObject *)Py_NewRef((PyObject *)stream);
    }
    Py_XDECREF(stream);
    Py_XDECREF(reader);
    Py_XDECREF(dict);
    return PyErr_Occurred() ? -1 : 0;
}

void pyhoop_stream_detach(TransportObject *transport) {
    StreamObject *stream = transport->stream;
    if (stream == NULL)
        return;
    transport->stream = NULL;
    stream->feeder = NULL;
    Py_CLEAR(stream->protocol_dict);
    Py_CLEAR(stream->reader_ref);
    Py_DECREF(stream);
}

/* Whether the protocol would hand the bytes to this reader, which is alive. */
static bool feeds_reader(TransportObject *transport, StreamObject *stream) {
    struct pyhoop_state *state = stream->state;
    if (stream->protocol_dict == NULL || !is_asyncio_protocol(transport->protocol, state))
        return false;
    PyObject *ref;
    PyObject *reader = reader_of_protocol(stream->protocol_dict, state, &ref);
    bool is_same =
        reader != NULL && ref == stream->reader_ref && Py_TYPE(reader) == state->stream_reader_type;
    Py_XDECREF(reader);
    return is_same;
}

bool pyhoop_stream_take_data(TransportObject *transport, PyObject *data, int *rc) {
    StreamObject *stream = transport->stream;
    *rc = 0;
    if (stream == NULL)
        return false;
    if (!pyhoop_stream_is_ours(stream) || stream->is_eof || !feeds_reader(transport, stream)) {
        if (PyErr_Occurred())
            *rc = -1;
        return *rc < 0;
    }
    Py_INCREF(stream); /* waking the reader runs code that may detach it */
    *rc = pyhoop_stream_feed(stream, data);
    Py_DECREF(stream);
    return true;
}
