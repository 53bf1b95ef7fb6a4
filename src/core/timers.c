/* SPDX-License-Identifier: MIT */
#include "core/timers.h"

#include <errno.h>
#include <stdlib.h>

#include "core/assert.h"

enum { ARITY = 4, MIN_CAPACITY = 16 };

void hoop_timers_init(struct hoop_timers *timers) {
    *timers = (struct hoop_timers){0};
}

void hoop_timers_fini(struct hoop_timers *timers) {
    free(timers->entries);
    *timers = (struct hoop_timers){0};
}

static bool is_before(const struct hoop_timer_entry *a, const struct hoop_timer_entry *b) {
    if (a->deadline_ns != b->deadline_ns)
        return a->deadline_ns < b->deadline_ns;
    return a->sequence < b->sequence;
}

static void place(struct hoop_timers *timers, size_t index, struct hoop_timer_entry entry) {
    timers->entries[index] = entry;
    entry.timer->index = index;
}

/* Fills the hole at `index` with `entry`, moving the hole towards the root. */
static void sift_up(struct hoop_timers *timers, size_t index, struct hoop_timer_entry entry) {
    while (index > 0) {
        size_t parent = (index - 1) / ARITY;
        if (!is_before(&entry, &timers->entries[parent]))
            break;
        place(timers, index, timers->entries[parent]);
        index = parent;
    }
    place(timers, index, entry);
}

static size_t earliest_child(const struct hoop_timers *timers, size_t first) {
    size_t best = first;
    size_t end = first + ARITY < timers->count ? first + ARITY : timers->count;
    for (size_t child = first + 1; child < end; child++) {
        if (is_before(&timers->entries[child], &timers->entries[best]))
            best = child;
    }
    return best;
}

/* Fills the hole at `index` with `entry`, moving the hole towards the leaves. */
static void sift_down(struct hoop_timers *timers, size_t index, struct hoop_timer_entry entry) {
    for (;;) {
        size_t first = index * ARITY + 1;
        if (first >= timers->count)
            break;
        size_t child = earliest_child(timers, first);
        if (!is_before(&timers->entries[child], &entry))
            break;
        place(timers, index, timers->entries[child]);
        index = child;
    }
    place(timers, index, entry);
}

static int resize(struct hoop_timers *timers, size_t capacity) {
    struct hoop_timer_entry *entries =
        realloc(timers->entries, capacity * sizeof(*timers->entries));
    if (entries == NULL)
        return -ENOMEM;
    timers->entries = entries;
    timers->capacity = capacity;
    return 0;
}

static int make_room(struct hoop_timers *timers) {
    if (timers->count < timers->capacity)
        return 0;
    if (timers->capacity > SIZE_MAX / sizeof(*timers->entries) / 2)
        return -ENOMEM;
    return resize(timers, timers->capacity ? timers->capacity * 2 : MIN_CAPACITY);
}

int hoop_timers_arm(struct hoop_timers *timers, struct hoop_timer *timer, int64_t deadline_ns) {
    HOOP_ASSERT(!hoop_timer_is_armed(timer));
    int rc = make_room(timers);
    if (rc < 0)
        return rc;
    struct hoop_timer_entry entry = {deadline_ns, timers->sequence++, timer};
    sift_up(timers, timers->count++, entry);
    return 0;
}

static void remove_at(struct hoop_timers *timers, size_t index) {
    timers->entries[index].timer->index = HOOP_TIMER_IDLE;
    struct hoop_timer_entry last = timers->entries[--timers->count];
    if (index < timers->count) {
        if (index > 0 && is_before(&last, &timers->entries[(index - 1) / ARITY]))
            sift_up(timers, index, last);
        else
            sift_down(timers, index, last);
    }
    if (timers->capacity > MIN_CAPACITY && timers->count < timers->capacity / 4)
        (void)resize(timers, timers->capacity / 2); /* a failed shrink changes nothing */
}

void hoop_timers_cancel(struct hoop_timers *timers, struct hoop_timer *timer) {
    HOOP_ASSERT(timer->index < timers->count && timers->entries[timer->index].timer == timer);
    remove_at(timers, timer->index);
}

struct hoop_timer *hoop_timers_peek_due(const struct hoop_timers *timers, int64_t now_ns) {
    if (timers->count == 0 || timers->entries[0].deadline_ns > now_ns)
        return NULL;
    return timers->entries[0].timer;
}

struct hoop_timer *hoop_timers_take_due(struct hoop_timers *timers, int64_t now_ns) {
    struct hoop_timer *timer = hoop_timers_peek_due(timers, now_ns);
    if (timer != NULL)
        remove_at(timers, 0);
    return timer;
}

bool hoop_timers_check(const struct hoop_timers *timers) {
    for (size_t i = 0; i < timers->count; i++) {
        if (timers->entries[i].timer->index != i)
            return false;
        if (i > 0 && is_before(&timers->entries[i], &timers->entries[(i - 1) / ARITY]))
            return false;
    }
    return timers->count <= timers->capacity;
}
