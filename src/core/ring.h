/* SPDX-License-Identifier: MIT
 *
 * ring: the ready queue, a FIFO of items in a power-of-two array that grows.
 *
 * Owns: the array. The items belong to whoever gave them (item.h).
 * Threads: one, the loop's.
 * Errors: -ENOMEM when it cannot grow; nothing has changed then.
 * Cost: a store and an increment to give, a load and an increment to take.
 * Invariants: 1. head <= tail, and tail - head <= mask + 1.
 *             2. slots[head & mask] .. slots[(tail - 1) & mask] are the items in order.
 */
#ifndef HOOP_CORE_RING_H
#define HOOP_CORE_RING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/item.h"

struct hoop_ring {
    struct hoop_item **slots;
    size_t mask; /* capacity - 1 */
    size_t head; /* the next to take; counts on, only masked on access */
    size_t tail; /* the next to fill */
};

/* `capacity`: rounded up to a power of two, at least 2. */
int hoop_ring_init(struct hoop_ring *ring, size_t capacity);
void hoop_ring_fini(struct hoop_ring *ring);
int hoop_ring_grow(struct hoop_ring *ring);

static inline size_t hoop_ring_count(const struct hoop_ring *ring) {
    return ring->tail - ring->head;
}

static inline int hoop_ring_give(struct hoop_ring *ring, struct hoop_item *item) {
    if (ring->tail - ring->head > ring->mask) {
        int rc = hoop_ring_grow(ring);
        if (rc < 0)
            return rc;
    }
    ring->slots[ring->tail++ & ring->mask] = item;
    return 0;
}

/* The oldest item, or NULL. */
static inline struct hoop_item *hoop_ring_take(struct hoop_ring *ring) {
    if (ring->head == ring->tail)
        return NULL;
    return ring->slots[ring->head++ & ring->mask];
}

/* The item `index` places behind the oldest; `index` < count. */
static inline struct hoop_item *hoop_ring_peek(const struct hoop_ring *ring, size_t index) {
    return ring->slots[(ring->head + index) & ring->mask];
}

#endif
