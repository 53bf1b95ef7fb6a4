/* SPDX-License-Identifier: MIT
 *
 * outqueue: bytes on their way out of a transport, in order.
 *
 * A stream's chunks are bytes objects, given, peeked at and dropped as bytes. A
 * datagram transport's are (bytes, address) pairs, given with a size and taken
 * one by one.
 *
 * Owns: a reference to each chunk in it.
 * Threads: one, the loop's.
 * Errors: -1 with MemoryError set; nothing has changed then.
 * Cost: two chunks fit inside the structure; more take a heap array, which is
 *   freed when the queue runs empty.
 * Invariants: 1. size is the sum of the chunks' sizes less `offset`.
 *             2. offset is less than the length of the first chunk, 0 when empty.
 */
#ifndef HOOP_PY_OUTQUEUE_H
#define HOOP_PY_OUTQUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "py/compat.h"

enum { PYHOOP_OUTQUEUE_INLINE = 2 };

struct pyhoop_outqueue {
    union {
        PyObject *inlined[PYHOOP_OUTQUEUE_INLINE];
        PyObject **heap;
    } chunks;
    size_t size;   /* bytes to go, or what datagrams count for */
    size_t offset; /* bytes of the first chunk that are gone */
    uint32_t first;
    uint32_t count;
    uint32_t capacity; /* PYHOOP_OUTQUEUE_INLINE: inlined */
};

void pyhoop_outqueue_init(struct pyhoop_outqueue *queue);

/* Takes over a reference to `bytes`, which is not empty; on error the caller keeps it. */
int pyhoop_outqueue_give(struct pyhoop_outqueue *queue, PyObject *bytes);

/* The same with any object, which counts for `size`; for queues that are not peeked at. */
int pyhoop_outqueue_give_sized(struct pyhoop_outqueue *queue, PyObject *chunk, size_t size);

/* Takes the first chunk, which was given with `size`; the queue is not empty. */
PyObject *pyhoop_outqueue_take(struct pyhoop_outqueue *queue, size_t size);

/* Fills `vector` from the front; how many entries it used. */
size_t pyhoop_outqueue_peek(const struct pyhoop_outqueue *queue, struct iovec *vector,
                            size_t capacity);

/* The chunk `index` places behind the first, borrowed; `index` < count. */
PyObject *pyhoop_outqueue_chunk(const struct pyhoop_outqueue *queue, size_t index);

/* Drops `count` bytes from the front. */
void pyhoop_outqueue_drop(struct pyhoop_outqueue *queue, size_t count);

void pyhoop_outqueue_clear(struct pyhoop_outqueue *queue);

#endif
