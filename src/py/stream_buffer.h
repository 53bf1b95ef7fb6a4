/* SPDX-License-Identifier: MIT
 *
 * stream_buffer: the bytes a stream reader has and nobody has read yet.
 *
 * Layer: py. asyncio: the bytearray StreamReader._buffer.
 * Owns: one of three things, from cheap to general:
 *   1. the bytes object that was received, as it is, with what is unread of it:
 *      read whole, it is handed on without a copy;
 *   2. memory of its own, once more arrives before that was read;
 *   3. a bytearray, once somebody looked at `reader._buffer`: what they do to it
 *      counts, until it is empty and nobody else has it.
 * Errors: 0 or an object; -1 or NULL with an exception, and nothing changed. In
 *   the third form BufferError, where a memoryview forbids a change of size.
 * Cost: each byte is copied at most once on its way in, amortised.
 * Invariants: 1. empty and not shown: `object` is NULL, start and end are 0.
 */
#ifndef HOOP_PY_STREAM_BUFFER_H
#define HOOP_PY_STREAM_BUFFER_H

#include <stdbool.h>

#include "py/compat.h"

struct pyhoop_stream_buffer {
    PyObject *object; /* bytes: form 1; bytearray: form 3; NULL: form 2 */
    char *memory;
    Py_ssize_t capacity;
    Py_ssize_t start; /* of what is unread, in `object` or `memory`; forms 1 and 2 */
    Py_ssize_t end;
};

static inline bool pyhoop_stream_buffer_is_shown(const struct pyhoop_stream_buffer *buffer) {
    return buffer->object != NULL && PyByteArray_Check(buffer->object);
}

static inline Py_ssize_t pyhoop_stream_buffer_size(const struct pyhoop_stream_buffer *buffer) {
    if (pyhoop_stream_buffer_is_shown(buffer))
        return PyByteArray_GET_SIZE(buffer->object);
    return buffer->end - buffer->start;
}

/* The unread bytes; valid until the next call of anything. */
const char *pyhoop_stream_buffer_peek(const struct pyhoop_stream_buffer *buffer);

/* Adds a bytes object, which may be kept as it is. */
int pyhoop_stream_buffer_append(struct pyhoop_stream_buffer *buffer, PyObject *bytes);

/* The first `size` bytes, which there are, as a bytes object. */
PyObject *pyhoop_stream_buffer_take(struct pyhoop_stream_buffer *buffer, Py_ssize_t size);
int pyhoop_stream_buffer_drop(struct pyhoop_stream_buffer *buffer, Py_ssize_t size);

/* The bytearray, new reference: from now on in form 3. */
PyObject *pyhoop_stream_buffer_show(struct pyhoop_stream_buffer *buffer);
void pyhoop_stream_buffer_replace(struct pyhoop_stream_buffer *buffer, PyObject *bytearray);

void pyhoop_stream_buffer_clear(struct pyhoop_stream_buffer *buffer);

#endif
