/* SPDX-License-Identifier: MIT
 *
 * stream: asyncio's StreamReader with its state and its work in C.
 *
 * Layer: py, over stream_buffer; the transport feeds it. asyncio: streams.py,
 *   whose classes stay what a program sees.
 *   stream.c has the state and what changes it, stream_reader.c the class of such
 *   readers, stream_read.c the awaitables, stream_guard.c who has replaced what
 *   of asyncio's, stream_feed.c the way from a transport to its reader.
 * What: a reader of exactly asyncio.StreamReader becomes an instance of a C
 *   subclass without a layout of its own, so that it can be done to a living
 *   object. Its eight attributes (`_buffer`, `_waiter`, ...) leave the instance
 *   dictionary for a `StreamObject`, which that dictionary has under one name;
 *   descriptors show them as before to asyncio's methods that are not replaced,
 *   and to whoever looks. Whatever is unusual (arguments, patches, debug mode) is
 *   given to asyncio's own method, which works on those descriptors.
 * When: as a transport calls connection_made or gets another protocol; never on
 *   a loop in debug mode, without the loop's option, or without a GIL.
 * Owns: the state owns loop, waiter, exception, transport and buffer, as the
 *   reader did; the reader owns the state, a feeding transport shares it.
 * Threads: the loop's.
 * Errors: asyncio's, with its texts.
 */
#ifndef HOOP_PY_STREAM_H
#define HOOP_PY_STREAM_H

#include "py/loop.h"
#include "py/stream_buffer.h"
#include "py/transport.h"

typedef struct StreamObject {
    PyObject_HEAD
    struct pyhoop_state *state;
    PyObject *loop; /* a Loop, unless somebody assigned another: then defers_to_asyncio */
    PyObject *waiter;
    PyObject *exception;
    PyObject *transport;
    PyObject *odd_limit; /* one that is no usual int, as assigned */
    Py_ssize_t limit;
    struct pyhoop_stream_buffer buffer;
    bool is_eof;
    bool is_paused;
    bool defers_to_asyncio; /* somebody replaced methods of this reader */
    /* The one transport that feeds it directly, and what has to be so for that; NULL: none. */
    TransportObject *feeder; /* borrowed: it lets go of us before it ends */
    PyObject *protocol_dict;
    PyObject *reader_ref; /* the protocol's weak reference to the reader */
} StreamObject;

enum pyhoop_read_kind {
    PYHOOP_READ_SOME,
    PYHOOP_READ_ALL,
    PYHOOP_READ_EXACTLY,
    PYHOOP_READ_UNTIL,
    PYHOOP_READ_LINE,
    PYHOOP_READ_NEXT,
};

extern PyType_Spec pyhoop_stream_spec;
extern PyType_Spec pyhoop_stream_reader_spec;
extern PyType_Spec pyhoop_stream_read_spec;

/* ---- stream.c ---- */

/* The state of asyncio's reader whose attributes `dict` has. NULL without an
 * exception if they are not as StreamReader.__init__ and its methods leave them. */
StreamObject *pyhoop_stream_new(LoopObject *loop, PyObject *dict);

/* Whether `limit` is one that C counts with; `*size` is written only then. */
bool pyhoop_stream_is_usual_limit(PyObject *limit, Py_ssize_t *size);

/* As feed_data of at least one byte, in a state that is not at its end. */
int pyhoop_stream_feed(StreamObject *self, PyObject *bytes);
int pyhoop_stream_wake(StreamObject *self);
int pyhoop_stream_resume(StreamObject *self);       /* the transport, paused or not */
int pyhoop_stream_maybe_resume(StreamObject *self); /* unless there is too much still */

/* ---- stream_read.c ---- */

/* The awaitable of one operation; `separator` NULL: a line feed. */
PyObject *pyhoop_stream_read_new(StreamObject *stream, PyObject *reader, enum pyhoop_read_kind kind,
                                 Py_ssize_t size, PyObject *separator);

/* ---- stream_reader.c ---- */

/* The state of a reader of ours, new reference; AttributeError if it was taken away. */
StreamObject *pyhoop_stream_of_reader(PyObject *reader, struct pyhoop_state *state);

/* Makes asyncio's reader one of ours. Its state, new reference; NULL without an exception if
 * it is to stay as it is. */
StreamObject *pyhoop_stream_adopt(PyObject *reader, LoopObject *loop);

/* ---- stream_guard.c ---- */

int pyhoop_stream_guard_init(struct pyhoop_state *state);

/* Whether the methods that C takes the place of are asyncio's own. */
bool pyhoop_stream_guard_holds(struct pyhoop_state *state, enum pyhoop_guarded guarded);

/* Whether a reader's instance attribute of that name would stand before a method. */
int pyhoop_stream_guard_names(struct pyhoop_state *state, PyObject *name);

/* Whether C may act for asyncio's methods of this reader now. */
static inline bool pyhoop_stream_is_ours(StreamObject *self) {
    return !self->defers_to_asyncio && !((LoopObject *)self->loop)->is_debug &&
           pyhoop_stream_guard_holds(self->state, PYHOOP_GUARDED_READER);
}

/* ---- stream_feed.c ---- */

/* The transport's protocol is new: is there a reader to feed? */
int pyhoop_stream_attach(TransportObject *transport);
void pyhoop_stream_detach(TransportObject *transport);

/* Hands over received bytes; false: by data_received, as ever. `data` stays the caller's.
 * `rc` is 0, or -1 with an exception. */
bool pyhoop_stream_take_data(TransportObject *transport, PyObject *data, int *rc);

#endif
