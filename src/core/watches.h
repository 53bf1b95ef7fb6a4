/* SPDX-License-Identifier: MIT
 *
 * watches: which part of hoop is interested in which descriptor.
 *
 * A watch is embedded in its owner (a transport, a listener, a reader). The
 * table finds it from the token the poller reports: descriptor and generation,
 * so that an event for a closed descriptor never reaches the owner of a new one
 * that got the same number.
 *
 * Owns: the table. Neither watches nor descriptors; a watch must be stopped
 *   before its descriptor is closed and before it is freed.
 * Threads: one, the loop's.
 * Errors: -errno; nothing has changed then.
 * Cost: O(1). An interest in reading that ends is only noted: the kernel is
 *   told when an unwanted event comes, so that pausing and resuming cost nothing.
 *   Who asks by edges (HOOP_POLL_EDGE), and waits only after the kernel said
 *   EAGAIN, can stop and start to want for nothing at all, writing included.
 * Invariants: 1. slots[watch->fd].watch == watch for each started watch.
 *             2. wanted is part of armed, or the poller was told wanted.
 */
#ifndef HOOP_CORE_WATCHES_H
#define HOOP_CORE_WATCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/poller.h"

struct hoop_watch;

struct hoop_watch_type {
    /* What is ready of what is wanted. 0, or a negative value to leave the loop at
     * once. The callee may stop and free any watch, its own included. */
    int (*on_events)(struct hoop_watch *watch, uint32_t events);
    /* The descriptor is somebody else's now, or the loop is being closed: stops the watch
     * and lets go of what hangs on it. */
    void (*forget)(struct hoop_watch *watch);
};

struct hoop_watch {
    const struct hoop_watch_type *type;
    int fd; /* -1 when not started */
    uint16_t wanted;
    uint16_t armed;
};

struct hoop_watch_slot {
    struct hoop_watch *watch;
    uint32_t generation;
};

struct hoop_watches {
    struct hoop_poller *poller;
    struct hoop_watch_slot *slots;
    size_t slot_count;
    size_t count; /* of started watches */
    /* The owner's count of forks and what it was at the start. Where they differ, this is a
     * child and the poller's registrations are its parent's: they are left alone. */
    const unsigned long *fork_count;
    unsigned long forks_at_start;
};

/* `fork_count` NULL: the process never forks. */
void hoop_watches_init(struct hoop_watches *watches, struct hoop_poller *poller,
                       const unsigned long *fork_count);
void hoop_watches_fini(struct hoop_watches *watches);

static inline void hoop_watch_init(struct hoop_watch *watch, const struct hoop_watch_type *type) {
    *watch = (struct hoop_watch){.type = type, .fd = -1};
}

/* -EEXIST: another watch has the descriptor. */
int hoop_watches_start(struct hoop_watches *watches, struct hoop_watch *watch, int fd,
                       uint32_t wanted);

/* Changes what a started watch wants; 0 is "nothing for now". */
int hoop_watches_want(struct hoop_watches *watches, struct hoop_watch *watch, uint32_t wanted);

/* Does nothing if the watch is not started. */
void hoop_watches_stop(struct hoop_watches *watches, struct hoop_watch *watch);

/* Whether this process is a fork of the one that made the table. */
static inline bool hoop_watches_are_inherited(const struct hoop_watches *watches) {
    return watches->fork_count != NULL && *watches->fork_count != watches->forks_at_start;
}

/* The watch of a descriptor, or NULL. */
static inline struct hoop_watch *hoop_watches_find(const struct hoop_watches *watches, int fd) {
    return fd >= 0 && (size_t)fd < watches->slot_count ? watches->slots[fd].watch : NULL;
}

/* Makes `fd` free for a new watch: whoever watches it forgets it. */
void hoop_watches_forget(struct hoop_watches *watches, int fd);

/* Hands an event of the poller to the watch it is for; what the callback returned. */
int hoop_watches_dispatch(struct hoop_watches *watches, const struct hoop_poll_event *event);

#endif
