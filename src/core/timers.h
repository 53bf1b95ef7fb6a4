/* SPDX-License-Identifier: MIT
 *
 * timers: items that become ready at a point in time; a 4-ary heap.
 *
 * Owns: the array of entries. A timer belongs to whoever armed it, and one
 * reference to it to the heap until it expires or is cancelled (item.h).
 * Threads: one, the loop's.
 * Time: deadlines are nanoseconds of the loop's clock (clock.h).
 * Order: by deadline; equal deadlines in the order they were armed.
 * Errors: -ENOMEM when it cannot grow; nothing has changed then.
 * Cost: O(log n) to arm, cancel and expire; a cancelled timer keeps no memory,
 *   and the array shrinks with the heap.
 * Invariants: 1. no entry is due before its parent.
 *             2. entries[timer->index].timer == timer for each armed timer.
 */
#ifndef HOOP_CORE_TIMERS_H
#define HOOP_CORE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/item.h"

#define HOOP_TIMER_IDLE SIZE_MAX

struct hoop_timer {
    struct hoop_item item;
    size_t index; /* of its entry, HOOP_TIMER_IDLE when not armed */
};

struct hoop_timer_entry {
    int64_t deadline_ns;
    uint64_t sequence;
    struct hoop_timer *timer;
};

struct hoop_timers {
    struct hoop_timer_entry *entries;
    size_t count;
    size_t capacity;
    uint64_t sequence; /* of the next timer armed */
};

void hoop_timers_init(struct hoop_timers *timers);
void hoop_timers_fini(struct hoop_timers *timers);

static inline void hoop_timer_init(struct hoop_timer *timer, const struct hoop_item_type *type) {
    timer->item = (struct hoop_item){.type = type};
    timer->index = HOOP_TIMER_IDLE;
}

static inline bool hoop_timer_is_armed(const struct hoop_timer *timer) {
    return timer->index != HOOP_TIMER_IDLE;
}

/* Takes over a reference to the idle `timer`. */
int hoop_timers_arm(struct hoop_timers *timers, struct hoop_timer *timer, int64_t deadline_ns);

/* Removes an armed timer; its reference goes back to the caller. */
void hoop_timers_cancel(struct hoop_timers *timers, struct hoop_timer *timer);

/* The earliest timer if it is due at `now_ns`, else NULL. `take`: with its reference. */
struct hoop_timer *hoop_timers_peek_due(const struct hoop_timers *timers, int64_t now_ns);
struct hoop_timer *hoop_timers_take_due(struct hoop_timers *timers, int64_t now_ns);

/* The earliest deadline; false when no timer is armed. */
static inline bool hoop_timers_next(const struct hoop_timers *timers, int64_t *deadline_ns) {
    if (timers->count == 0)
        return false;
    *deadline_ns = timers->entries[0].deadline_ns;
    return true;
}

/* Whether the invariants hold; for tests and debug builds. */
bool hoop_timers_check(const struct hoop_timers *timers);

#endif
