/* SPDX-License-Identifier: MIT
 *
 * loop: one iteration of the event loop, and what it works on.
 *
 * Layer: the top of the core. The binding embeds it, gives it items, timers,
 *   watches and flushes, and calls hoop_loop_iterate until it has enough.
 * Owns: poller, waker, inbox, ready queue, timer heap, table of watches. Items
 *   in a queue: one reference each (item.h).
 * Threads: the loop's own, but for hoop_loop_push_anythread.
 * Time: nanoseconds of the clock it was opened with.
 * Errors: -errno; nothing has changed then.
 * Order: within an iteration as hoop_loop_iterate reads. Ready items run in
 *   the order they were given; those given while it runs wait for the next one.
 * Cost: with work queued the poller is asked at most every 6 to 25 us
 *   (clock.h), always after it found something and always before blocking.
 */
#ifndef HOOP_CORE_LOOP_H
#define HOOP_CORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/inbox.h"
#include "core/poller.h"
#include "core/ring.h"
#include "core/timers.h"
#include "core/waker.h"
#include "core/watches.h"

struct hoop_loop;

/* What the binding does around a wait that may block (it lets go of the GIL). */
struct hoop_loop_hooks {
    void (*before_block)(struct hoop_loop *loop);
    void (*after_block)(struct hoop_loop *loop);
    const unsigned long *fork_count; /* of the process (watches.h), or NULL */
};

/* Work put off to the end of the current phase, or a few hundred microseconds, once
 * however often it is asked for: a transport with several writes sends them together. */
struct hoop_flush {
    int (*run)(struct hoop_flush *flush); /* as an item's */
    struct hoop_flush *next;
    bool is_queued;
};

struct hoop_loop_stats {
    uint64_t iterations;
    uint64_t callbacks;
    uint64_t events;
    uint64_t polls;
    uint64_t idle_ns; /* spent in waits that could block */
};

struct hoop_loop {
    struct hoop_ring ready;
    struct hoop_inbox inbox;
    uint64_t polled_ticks; /* when the poller was last asked */
    bool found_events;     /* it reported some then */
    bool is_crowded;       /* they were several: sends had better wait for each other */
    bool is_stopping;      /* the iteration must not block */
    bool poll_every_round; /* as asyncio does; slower */
    struct hoop_flush *flush_first;
    struct hoop_flush **flush_last;
    uint64_t deferred_ticks; /* when the first of those was put off */
    struct hoop_clock clock;
    struct hoop_timers timers;
    struct hoop_watches watches;
    struct hoop_poller poller;
    struct hoop_waker waker;
    struct hoop_watch waker_watch;
    struct hoop_loop_hooks hooks;
    struct hoop_loop_stats stats;
};

/* Takes over `poller` (closes it, also on error) and copies clock and hooks. */
int hoop_loop_open(struct hoop_loop *loop, const struct hoop_poller *poller,
                   const struct hoop_clock *clock, const struct hoop_loop_hooks *hooks);

/* Drops every queued item and timer unrun and closes the descriptors. Watches
 * must have been stopped and nothing be deferred. From here on push_anythread is refused. */
void hoop_loop_close(struct hoop_loop *loop);

/* One iteration. 0, the negative value by which an item or a watch asked to
 * leave, or the poller's error; what was left undone stays queued. */
int hoop_loop_iterate(struct hoop_loop *loop);

/* Takes over a reference to `item`, which runs in the next iteration. */
static inline int hoop_loop_give(struct hoop_loop *loop, struct hoop_item *item);
int hoop_loop_push_anythread(struct hoop_loop *loop, struct hoop_item *item);

/* Runs `flush` when the current phase (events, or ready items) ends or has lasted. */
void hoop_loop_defer(struct hoop_loop *loop, struct hoop_flush *flush);

/* Runs what was deferred now, as after a phase: for who leaves the loop in its middle. */
int hoop_loop_flush(struct hoop_loop *loop);

/* Moves what other threads pushed to the ready queue. What finds no memory
 * stays in the inbox for the next time. */
void hoop_loop_drain_inbox(struct hoop_loop *loop);

static inline int64_t hoop_loop_now_ns(const struct hoop_loop *loop) {
    return loop->clock.now_ns(&loop->clock);
}

static inline int hoop_loop_give(struct hoop_loop *loop, struct hoop_item *item) {
    if (!hoop_inbox_is_empty(&loop->inbox))
        hoop_loop_drain_inbox(loop);
    return hoop_ring_give(&loop->ready, item);
}

#endif
