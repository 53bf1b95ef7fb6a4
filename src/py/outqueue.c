/* SPDX-License-Identifier: MIT */
#include "py/outqueue.h"

#include <string.h>

void pyhoop_outqueue_init(struct pyhoop_outqueue *queue) {
    *queue = (struct pyhoop_outqueue){.capacity = PYHOOP_OUTQUEUE_INLINE};
}

static PyObject **chunks_of(struct pyhoop_outqueue *queue) {
    return queue->capacity > PYHOOP_OUTQUEUE_INLINE ? queue->chunks.heap : queue->chunks.inlined;
}

/* Room for one more behind the last: moves the chunks to the front, or to a larger array. */
static int make_room(struct pyhoop_outqueue *queue) {
    PyObject **chunks = chunks_of(queue);
    if (queue->first > 0 && queue->first >= queue->capacity / 2) {
        memmove(chunks, chunks + queue->first, queue->count * sizeof(*chunks));
        queue->first = 0;
        return 0;
    }
    uint32_t capacity = queue->capacity < 8 ? 16 : queue->capacity * 2;
    PyObject **heap = capacity <= queue->capacity ? NULL : PyMem_New(PyObject *, (size_t)capacity);
    if (heap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(heap, chunks + queue->first, queue->count * sizeof(*heap));
    if (queue->capacity > PYHOOP_OUTQUEUE_INLINE)
        PyMem_Free(queue->chunks.heap);
    queue->chunks.heap = heap;
    queue->capacity = capacity;
    queue->first = 0;
    return 0;
}

int pyhoop_outqueue_give_sized(struct pyhoop_outqueue *queue, PyObject *chunk, size_t size) {
    if (queue->first + queue->count == queue->capacity && make_room(queue) < 0)
        return -1;
    chunks_of(queue)[queue->first + queue->count++] = chunk;
    queue->size += size;
    return 0;
}

int pyhoop_outqueue_give(struct pyhoop_outqueue *queue, PyObject *bytes) {
    return pyhoop_outqueue_give_sized(queue, bytes, (size_t)PyBytes_GET_SIZE(bytes));
}

PyObject *pyhoop_outqueue_chunk(const struct pyhoop_outqueue *queue, size_t index) {
    return chunks_of((struct pyhoop_outqueue *)queue)[queue->first + index];
}

size_t pyhoop_outqueue_peek(const struct pyhoop_outqueue *queue, struct iovec *vector,
                            size_t capacity) {
    PyObject *const *chunks = chunks_of((struct pyhoop_outqueue *)queue) + queue->first;
    size_t count = queue->count < capacity ? queue->count : capacity;
    for (size_t i = 0; i < count; i++) {
        size_t offset = i == 0 ? queue->offset : 0;
        vector[i].iov_base = PyBytes_AS_STRING(chunks[i]) + offset;
        vector[i].iov_len = (size_t)PyBytes_GET_SIZE(chunks[i]) - offset;
    }
    return count;
}

static void become_empty(struct pyhoop_outqueue *queue) {
    if (queue->capacity > PYHOOP_OUTQUEUE_INLINE)
        PyMem_Free(queue->chunks.heap);
    pyhoop_outqueue_init(queue);
}

void pyhoop_outqueue_drop(struct pyhoop_outqueue *queue, size_t count) {
    queue->size -= count;
    count += queue->offset;
    while (queue->count > 0) {
        PyObject *chunk = chunks_of(queue)[queue->first];
        size_t length = (size_t)PyBytes_GET_SIZE(chunk);
        if (count < length)
            break;
        count -= length;
        queue->first++;
        queue->count--;
        Py_DECREF(chunk); /* exact bytes: runs nobody's code */
    }
    queue->offset = count;
    if (queue->count == 0)
        become_empty(queue);
}

PyObject *pyhoop_outqueue_take(struct pyhoop_outqueue *queue, size_t size) {
    PyObject *chunk = chunks_of(queue)[queue->first++];
    queue->size -= size;
    if (--queue->count == 0)
        become_empty(queue);
    return chunk;
}

void pyhoop_outqueue_clear(struct pyhoop_outqueue *queue) {
    struct pyhoop_outqueue taken = *queue; /* letting go of an address may run anybody's code */
    pyhoop_outqueue_init(queue);
    PyObject **chunks = chunks_of(&taken) + taken.first;
    for (uint32_t i = 0; i < taken.count; i++)
        Py_DECREF(chunks[i]);
    become_empty(&taken);
}
