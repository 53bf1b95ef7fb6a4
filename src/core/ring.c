/* SPDX-License-Identifier: MIT */
#include "core/ring.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

int hoop_ring_init(struct hoop_ring *ring, size_t capacity) {
    size_t rounded = 2;
    while (rounded < capacity)
        rounded *= 2;
    struct hoop_item **slots = malloc(rounded * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    *ring = (struct hoop_ring){.slots = slots, .mask = rounded - 1};
    return 0;
}

void hoop_ring_fini(struct hoop_ring *ring) {
    free(ring->slots);
    *ring = (struct hoop_ring){0};
}

int hoop_ring_grow(struct hoop_ring *ring) {
    size_t capacity = ring->mask + 1;
    if (capacity > SIZE_MAX / sizeof(*ring->slots) / 2)
        return -ENOMEM;
    struct hoop_item **slots = malloc(capacity * 2 * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    size_t count = hoop_ring_count(ring);
    for (size_t i = 0; i < count; i++)
        slots[i] = hoop_ring_peek(ring, i);
    free(ring->slots);
    *ring = (struct hoop_ring){.slots = slots, .mask = capacity * 2 - 1, .tail = count};
    return 0;
}
