/* SPDX-License-Identifier: MIT
 *
 * atomic: the few atomic operations the core makes, named for what they order.
 *
 * Layer: the bottom; everything that two threads touch goes through here.
 * Full (sequentially consistent) order is used where one thread stores A then
 * loads B while the other stores B then loads A (inbox.h, "sleep").
 */
#ifndef HOOP_CORE_ATOMIC_H
#define HOOP_CORE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>

struct hoop_atomic_pointer {
    _Atomic(void *) value;
};

struct hoop_atomic_state {
    _Atomic(int) value;
};

static inline void *hoop_atomic_pointer_load(struct hoop_atomic_pointer *pointer) {
    return atomic_load_explicit(&pointer->value, memory_order_acquire);
}

static inline void *hoop_atomic_pointer_load_ordered(struct hoop_atomic_pointer *pointer) {
    return atomic_load_explicit(&pointer->value, memory_order_seq_cst);
}

static inline void hoop_atomic_pointer_init(struct hoop_atomic_pointer *pointer, void *value) {
    atomic_init(&pointer->value, value);
}

static inline void *hoop_atomic_pointer_exchange(struct hoop_atomic_pointer *pointer, void *value) {
    return atomic_exchange_explicit(&pointer->value, value, memory_order_seq_cst);
}

/* On failure `expected` holds the value found. */
static inline bool hoop_atomic_pointer_replace(struct hoop_atomic_pointer *pointer, void **expected,
                                               void *value) {
    return atomic_compare_exchange_weak_explicit(&pointer->value, expected, value,
                                                 memory_order_seq_cst, memory_order_acquire);
}

static inline void hoop_atomic_state_init(struct hoop_atomic_state *state, int value) {
    atomic_init(&state->value, value);
}

static inline int hoop_atomic_state_load(struct hoop_atomic_state *state) {
    return atomic_load_explicit(&state->value, memory_order_seq_cst);
}

static inline void hoop_atomic_state_store(struct hoop_atomic_state *state, int value) {
    atomic_store_explicit(&state->value, value, memory_order_seq_cst);
}

/* Moves the state from `from` to `to`; false if it was not `from`. */
static inline bool hoop_atomic_state_move(struct hoop_atomic_state *state, int from, int to) {
    return atomic_compare_exchange_strong_explicit(&state->value, &from, to, memory_order_seq_cst,
                                                   memory_order_seq_cst);
}

#endif
