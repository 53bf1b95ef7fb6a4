/* SPDX-License-Identifier: MIT */
#include "core/loop.h"

#include <errno.h>

#include "core/assert.h"

enum { EVENTS_PER_POLL = 256, RING_CAPACITY = 64, CROWD = 4, FLUSH_POLLS = 32 };

static int wake_watch_events(struct hoop_watch *watch, uint32_t events) {
    (void)watch;
    (void)events;
    return 0; /* edge-triggered: nothing to read, the iteration drains the inbox */
}

/* The loop stops it itself when it closes. */
static const struct hoop_watch_type wake_watch_type = {.on_events = wake_watch_events};

int hoop_loop_open(struct hoop_loop *loop, const struct hoop_poller *poller,
                   const struct hoop_clock *clock, const struct hoop_loop_hooks *hooks) {
    *loop = (struct hoop_loop){.clock = *clock, .hooks = *hooks, .poller = *poller};
    loop->flush_last = &loop->flush_first;
    hoop_inbox_init(&loop->inbox);
    hoop_timers_init(&loop->timers);
    hoop_watches_init(&loop->watches, &loop->poller, hooks->fork_count);
    hoop_watch_init(&loop->waker_watch, &wake_watch_type);

    int rc = hoop_ring_init(&loop->ready, RING_CAPACITY);
    if (rc < 0)
        goto close_poller;
    rc = hoop_waker_open(&loop->waker);
    if (rc < 0)
        goto free_ring;
    rc = hoop_watches_start(&loop->watches, &loop->waker_watch, loop->waker.fd,
                            HOOP_POLL_READ | HOOP_POLL_EDGE);
    if (rc < 0)
        goto close_waker;
    return 0;

close_waker:
    hoop_waker_close(&loop->waker);
    hoop_watches_fini(&loop->watches);
free_ring:
    hoop_ring_fini(&loop->ready);
close_poller:
    loop->poller.type->close(&loop->poller);
    return rc;
}

static void drop_list(struct hoop_item *item) {
    while (item != NULL) {
        struct hoop_item *next = item->next;
        item->next = NULL;
        item->type->drop(item);
        item = next;
    }
}

void hoop_loop_close(struct hoop_loop *loop) {
    /* Dropping may run the owner's code, which may give or arm more: until nothing is left. */
    drop_list(hoop_inbox_close(&loop->inbox));
    struct hoop_item *item;
    struct hoop_timer *timer;
    do {
        while ((timer = hoop_timers_take_due(&loop->timers, INT64_MAX)) != NULL)
            timer->item.type->drop(&timer->item);
        while ((item = hoop_ring_take(&loop->ready)) != NULL)
            item->type->drop(item);
    } while (loop->timers.count > 0);

    hoop_watches_stop(&loop->watches, &loop->waker_watch);
    HOOP_ASSERT(loop->watches.count == 0);
    hoop_waker_close(&loop->waker);
    hoop_watches_fini(&loop->watches);
    hoop_timers_fini(&loop->timers);
    hoop_ring_fini(&loop->ready);
    loop->poller.type->close(&loop->poller);
}

int hoop_loop_push_anythread(struct hoop_loop *loop, struct hoop_item *item) {
    int rc = hoop_inbox_push_anythread(&loop->inbox, item);
    if (rc == 0)
        hoop_waker_wake_anythread(&loop->waker);
    return rc;
}

void hoop_loop_drain_inbox(struct hoop_loop *loop) {
    struct hoop_item *item = hoop_inbox_take_all(&loop->inbox);
    while (item != NULL) {
        struct hoop_item *next = item->next;
        item->next = NULL;
        if (hoop_ring_give(&loop->ready, item) < 0) {
            item->next = next;
            hoop_inbox_put_back(&loop->inbox, item);
            return;
        }
        item = next;
    }
}

void hoop_loop_defer(struct hoop_loop *loop, struct hoop_flush *flush) {
    if (flush->is_queued)
        return;
    if (loop->flush_first == NULL)
        loop->deferred_ticks = loop->clock.ticks(&loop->clock);
    flush->is_queued = true;
    flush->next = NULL;
    *loop->flush_last = flush;
    loop->flush_last = &flush->next;
}

int hoop_loop_flush(struct hoop_loop *loop) {
    int rc = 0;
    while (rc == 0 && loop->flush_first != NULL) {
        struct hoop_flush *flush = loop->flush_first;
        loop->flush_first = flush->next;
        if (loop->flush_first == NULL)
            loop->flush_last = &loop->flush_first;
        flush->is_queued = false;
        rc = flush->run(flush);
    }
    return rc;
}

/* What was put off long ago does not wait for the rest of a long phase. */
static int flush_late(struct hoop_loop *loop) {
    if (loop->flush_first == NULL || loop->clock.ticks(&loop->clock) - loop->deferred_ticks <
                                         FLUSH_POLLS * loop->clock.poll_ticks)
        return 0;
    return hoop_loop_flush(loop);
}

static bool poll_is_due(const struct hoop_loop *loop) {
    if (loop->found_events || loop->poll_every_round || hoop_ring_count(&loop->ready) == 0)
        return true;
    return loop->clock.ticks(&loop->clock) - loop->polled_ticks >= loop->clock.poll_ticks;
}

/* How long the wait may block: 0, the time to the next timer, or -1 for ever. */
static int64_t wait_limit_ns(const struct hoop_loop *loop, int64_t now_ns) {
    int64_t deadline_ns;
    if (hoop_ring_count(&loop->ready) > 0 || loop->is_stopping)
        return 0;
    if (!hoop_timers_next(&loop->timers, &deadline_ns))
        return -1;
    if (deadline_ns <= now_ns)
        return 0;
    if (now_ns < 0 && deadline_ns > INT64_MAX + now_ns) /* a clock that counts from below zero */
        return INT64_MAX;
    return deadline_ns - now_ns;
}

static int block(struct hoop_loop *loop, struct hoop_poll_event *events, int64_t timeout_ns) {
    loop->hooks.before_block(loop);
    hoop_waker_sleep(&loop->waker);
    if (hoop_inbox_peek(&loop->inbox) != NULL) /* look all the same, or threads starve I/O */
        timeout_ns = 0;
    int count = loop->poller.type->wait(&loop->poller, events, EVENTS_PER_POLL, timeout_ns);
    hoop_waker_rise(&loop->waker);
    loop->hooks.after_block(loop);
    return count;
}

/* Asks the poller once; `now_ns` is the time after it if there are timers to compare it with. */
static int wait_for_events(struct hoop_loop *loop, struct hoop_poll_event *events,
                           int64_t *now_ns) {
    bool may_block = hoop_ring_count(&loop->ready) == 0 && !loop->is_stopping;
    bool needs_time = may_block || loop->timers.count > 0;
    int64_t before_ns = needs_time ? hoop_loop_now_ns(loop) : 0;
    int64_t timeout_ns = wait_limit_ns(loop, before_ns);
    loop->stats.polls++;
    *now_ns = before_ns;
    if (timeout_ns == 0)
        return loop->poller.type->wait(&loop->poller, events, EVENTS_PER_POLL, 0);
    int count = block(loop, events, timeout_ns);
    *now_ns = hoop_loop_now_ns(loop);
    loop->stats.idle_ns += (uint64_t)(*now_ns - before_ns);
    return count;
}

static int dispatch(struct hoop_loop *loop, const struct hoop_poll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        int rc = hoop_watches_dispatch(&loop->watches, &events[i]);
        if (rc == 0)
            rc = flush_late(loop);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void expire_timers(struct hoop_loop *loop, int64_t now_ns) {
    struct hoop_timer *timer;
    while ((timer = hoop_timers_peek_due(&loop->timers, now_ns)) != NULL) {
        if (hoop_ring_give(&loop->ready, &timer->item) < 0)
            return; /* no memory: it stays armed for the next time */
        hoop_timers_cancel(&loop->timers, timer);
    }
}

static int poll_and_dispatch(struct hoop_loop *loop) {
    struct hoop_poll_event events[EVENTS_PER_POLL];
    int64_t now_ns;
    int count = wait_for_events(loop, events, &now_ns);
    loop->polled_ticks = loop->clock.ticks(&loop->clock);
    loop->found_events = count > 0;
    loop->is_crowded = count >= CROWD;
    hoop_loop_drain_inbox(loop);
    int rc = count < 0 && count != -EINTR ? count : 0;
    if (count > 0) {
        loop->stats.events += (uint64_t)count;
        rc = dispatch(loop, events, count);
    }
    expire_timers(loop, now_ns);
    return rc < 0 ? rc : hoop_loop_flush(loop);
}

static int run_ready(struct hoop_loop *loop) {
    size_t count = hoop_ring_count(&loop->ready);
    for (size_t i = 0; i < count; i++) {
        struct hoop_item *item = hoop_ring_take(&loop->ready);
        if (item == NULL) /* a nested iteration ran the rest */
            break;
        loop->stats.callbacks++;
        int rc = item->type->run(item);
        if (rc == 0)
            rc = flush_late(loop);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int hoop_loop_iterate(struct hoop_loop *loop) {
    loop->stats.iterations++;
    if (!hoop_inbox_is_empty(&loop->inbox))
        hoop_loop_drain_inbox(loop);
    if (poll_is_due(loop)) {
        int rc = poll_and_dispatch(loop);
        if (rc < 0)
            return rc;
    }
    int rc = run_ready(loop);
    return rc < 0 ? rc : hoop_loop_flush(loop);
}
