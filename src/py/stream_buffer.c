/* SPDX-License-Identifier: MIT */
#include "py/stream_buffer.h"

#include <string.h>

/* Memory up to this size is kept by a reader that has read everything. */
enum { KEPT_CAPACITY = 4096, FIRST_CAPACITY = 512 };

const char *pyhoop_stream_buffer_peek(const struct pyhoop_stream_buffer *buffer) {
    if (buffer->object == NULL)
        return buffer->memory == NULL ? "" : buffer->memory + buffer->start;
    if (PyByteArray_Check(buffer->object))
        return PyByteArray_AS_STRING(buffer->object);
    return PyBytes_AS_STRING(buffer->object) + buffer->start;
}

/* Everything has been read. */
static void release(struct pyhoop_stream_buffer *buffer) {
    PyObject *object = buffer->object;
    buffer->object = NULL;
    buffer->start = buffer->end = 0;
    if (buffer->capacity > KEPT_CAPACITY) {
        PyMem_Free(buffer->memory);
        buffer->memory = NULL;
        buffer->capacity = 0;
    }
    Py_XDECREF(object);
}

/* ---- in ---- */

static int extend_shown(struct pyhoop_stream_buffer *buffer, PyObject *bytes) {
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer->object);
    Py_ssize_t added = PyBytes_GET_SIZE(bytes);
    if (added > PY_SSIZE_T_MAX - size) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyByteArray_Resize(buffer->object, size + added) < 0)
        return -1;
    memcpy(PyByteArray_AS_STRING(buffer->object) + size, PyBytes_AS_STRING(bytes), (size_t)added);
    return 0;
}

/* New memory for what is unread and `added` bytes more. */
static int grow(struct pyhoop_stream_buffer *buffer, Py_ssize_t added) {
    Py_ssize_t size = buffer->end - buffer->start;
    Py_ssize_t capacity = buffer->capacity > 0 ? 2 * buffer->capacity : FIRST_CAPACITY;
    if (added > PY_SSIZE_T_MAX / 2 - size) {
        PyErr_NoMemory();
        return -1;
    }
    if (capacity < size + added)
        capacity = size + added;
    char *memory = PyMem_Malloc((size_t)capacity);
    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(memory, pyhoop_stream_buffer_peek(buffer), (size_t)size);
    PyMem_Free(buffer->memory);
    buffer->memory = memory;
    buffer->capacity = capacity;
    return 0;
}

/* Has what is unread lie in `memory`, with room for `added` bytes behind it. */
static int make_room(struct pyhoop_stream_buffer *buffer, Py_ssize_t added) {
    Py_ssize_t size = buffer->end - buffer->start;
    bool is_chunk = buffer->object != NULL;
    if (!is_chunk && buffer->capacity - buffer->end >= added)
        return 0;
    /* Moving pays when at least half of the memory becomes free by it. */
    bool moves =
        buffer->capacity - size >= added && (is_chunk || buffer->start >= buffer->capacity / 2);
    if (moves)
        memmove(buffer->memory, pyhoop_stream_buffer_peek(buffer), (size_t)size);
    else if (grow(buffer, added) < 0)
        return -1;
    buffer->start = 0;
    buffer->end = size;
    Py_CLEAR(buffer->object);
    return 0;
}

int pyhoop_stream_buffer_append(struct pyhoop_stream_buffer *buffer, PyObject *bytes) {
    if (pyhoop_stream_buffer_is_shown(buffer)) {
        if (PyByteArray_GET_SIZE(buffer->object) > 0 || Py_REFCNT(buffer->object) > 1)
            return extend_shown(buffer, bytes);
        release(buffer);
    }
    Py_ssize_t added = PyBytes_GET_SIZE(bytes);
    if (buffer->start == buffer->end) {
        buffer->object = Py_NewRef(bytes);
        buffer->end = added;
        return 0;
    }
    if (make_room(buffer, added) < 0)
        return -1;
    memcpy(buffer->memory + buffer->end, PyBytes_AS_STRING(bytes), (size_t)added);
    buffer->end += added;
    return 0;
}

/* ---- out ---- */

int pyhoop_stream_buffer_drop(struct pyhoop_stream_buffer *buffer, Py_ssize_t size) {
    if (pyhoop_stream_buffer_is_shown(buffer))
        return size == 0 ? 0 : PySequence_DelSlice(buffer->object, 0, size);
    buffer->start += size;
    if (buffer->start == buffer->end)
        release(buffer);
    return 0;
}

PyObject *pyhoop_stream_buffer_take(struct pyhoop_stream_buffer *buffer, Py_ssize_t size) {
    PyObject *object = buffer->object;
    if (object != NULL && PyBytes_CheckExact(object) && size == PyBytes_GET_SIZE(object)) {
        buffer->object = NULL;
        buffer->start = buffer->end = 0;
        return object;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(pyhoop_stream_buffer_peek(buffer), size);
    if (bytes != NULL && pyhoop_stream_buffer_drop(buffer, size) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

/* ---- shown ---- */

void pyhoop_stream_buffer_replace(struct pyhoop_stream_buffer *buffer, PyObject *bytearray) {
    Py_INCREF(bytearray);
    pyhoop_stream_buffer_clear(buffer);
    buffer->object = bytearray;
}

PyObject *pyhoop_stream_buffer_show(struct pyhoop_stream_buffer *buffer) {
    if (pyhoop_stream_buffer_is_shown(buffer))
        return Py_NewRef(buffer->object);
    PyObject *bytearray = PyByteArray_FromStringAndSize(pyhoop_stream_buffer_peek(buffer),
                                                        buffer->end - buffer->start);
    if (bytearray != NULL)
        pyhoop_stream_buffer_replace(buffer, bytearray);
    return bytearray;
}

void pyhoop_stream_buffer_clear(struct pyhoop_stream_buffer *buffer) {
    PyMem_Free(buffer->memory);
    buffer->memory = NULL;
    buffer->capacity = 0;
    release(buffer);
}
