/* SPDX-License-Identifier: MIT */
#include "core/watches.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"

enum { MIN_SLOTS = 64 };

void hoop_watches_init(struct hoop_watches *watches, struct hoop_poller *poller,
                       const unsigned long *fork_count) {
    *watches = (struct hoop_watches){.poller = poller, .fork_count = fork_count};
    if (fork_count != NULL)
        watches->forks_at_start = *fork_count;
}

void hoop_watches_fini(struct hoop_watches *watches) {
    free(watches->slots);
    *watches = (struct hoop_watches){0};
}

static int make_room(struct hoop_watches *watches, int fd) {
    size_t needed = (size_t)fd + 1;
    if (needed <= watches->slot_count)
        return 0;
    size_t count = watches->slot_count ? watches->slot_count : MIN_SLOTS;
    while (count < needed)
        count *= 2;
    struct hoop_watch_slot *slots = realloc(watches->slots, count * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    memset(slots + watches->slot_count, 0, (count - watches->slot_count) * sizeof(*slots));
    watches->slots = slots;
    watches->slot_count = count;
    return 0;
}

static uint64_t token_of(const struct hoop_watches *watches, int fd) {
    return (uint64_t)watches->slots[fd].generation << 32 | (uint32_t)fd;
}

/* Tells the poller what to report from now on. */
static int arm(struct hoop_watches *watches, struct hoop_watch *watch, uint32_t events) {
    if (events == watch->armed)
        return 0;
    struct hoop_poller *poller = watches->poller;
    uint64_t token = token_of(watches, watch->fd);
    int rc = 0;
    if (hoop_watches_are_inherited(watches)) {
        ; /* the registration belongs to the parent process */
    } else if (events == 0) {
        /* Fails only if the descriptor is closed already, which removed it. */
        (void)poller->type->remove(poller, watch->fd);
    } else if (watch->armed != 0) {
        rc = poller->type->modify(poller, watch->fd, events, token);
        if (rc == -ENOENT) /* closed and reused behind our back */
            rc = poller->type->add(poller, watch->fd, events, token);
    } else {
        rc = poller->type->add(poller, watch->fd, events, token);
        if (rc == -EEXIST) /* left behind by a descriptor closed while a copy of it lived */
            rc = poller->type->modify(poller, watch->fd, events, token);
    }
    if (rc == 0)
        watch->armed = (uint16_t)events;
    return rc;
}

int hoop_watches_start(struct hoop_watches *watches, struct hoop_watch *watch, int fd,
                       uint32_t wanted) {
    HOOP_ASSERT(watch->fd < 0);
    if (fd < 0)
        return -EBADF;
    if (hoop_watches_find(watches, fd) != NULL)
        return -EEXIST;
    int rc = make_room(watches, fd);
    if (rc < 0)
        return rc;
    watches->slots[fd].generation++;
    watch->fd = fd;
    watch->armed = 0;
    rc = arm(watches, watch, wanted);
    if (rc < 0) {
        watch->fd = -1;
        return rc;
    }
    watch->wanted = (uint16_t)wanted;
    watches->slots[fd].watch = watch;
    watches->count++;
    return 0;
}

int hoop_watches_want(struct hoop_watches *watches, struct hoop_watch *watch, uint32_t wanted) {
    HOOP_ASSERT(watch->fd >= 0);
    uint32_t ended = watch->armed & ~wanted;
    bool is_edge = watch->armed & HOOP_POLL_EDGE;
    bool asks_more = (wanted & ~(uint32_t)watch->armed) != 0;
    /* A socket is nearly always writable: an interest in writing that stayed armed would fire. */
    bool ends_writing = (ended & HOOP_POLL_WRITE) != 0 && !is_edge;
    bool ends_edge = (ended & HOOP_POLL_EDGE) != 0 && wanted != 0;
    if (asks_more || ends_writing || ends_edge) {
        uint32_t kept = is_edge && wanted & HOOP_POLL_EDGE ? watch->armed : 0;
        int rc = arm(watches, watch, wanted | kept);
        if (rc < 0)
            return rc;
    }
    watch->wanted = (uint16_t)wanted;
    return 0;
}

void hoop_watches_stop(struct hoop_watches *watches, struct hoop_watch *watch) {
    if (watch->fd < 0)
        return;
    HOOP_ASSERT(hoop_watches_find(watches, watch->fd) == watch);
    (void)arm(watches, watch, 0);
    watches->slots[watch->fd].watch = NULL;
    watches->count--;
    watch->fd = -1;
    watch->wanted = 0;
}

void hoop_watches_forget(struct hoop_watches *watches, int fd) {
    struct hoop_watch *watch = hoop_watches_find(watches, fd);
    if (watch != NULL)
        watch->type->forget(watch);
}

int hoop_watches_dispatch(struct hoop_watches *watches, const struct hoop_poll_event *event) {
    int fd = (int)(uint32_t)event->token;
    struct hoop_watch *watch = hoop_watches_find(watches, fd);
    if (watch == NULL || token_of(watches, fd) != event->token)
        return 0;
    uint32_t events = event->events;
    if (events & HOOP_POLL_BROKEN)
        events |= watch->wanted;
    uint32_t ready = events & watch->wanted;
    if (ready == 0) {
        /* What came is not wanted any more: now the kernel is told. A broken
         * descriptor that nobody listens to must leave the poller, or it reports for ever;
         * by edges it reports once, so reading may stay. */
        uint32_t kept = watch->armed & HOOP_POLL_EDGE ? watch->armed & ~HOOP_POLL_WRITE : 0;
        (void)arm(watches, watch, watch->wanted | kept);
        return 0;
    }
    return watch->type->on_events(watch, ready);
}
