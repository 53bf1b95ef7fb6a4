/* SPDX-License-Identifier: MIT
 *
 * poller: asks the kernel which descriptors are ready. The contract, and the
 * epoll backend behind it; a test puts a scripted one in its place.
 *
 * Owns: the backend's own descriptor. Never the descriptors it watches.
 * Threads: one, the loop's.
 * Order: level-triggered unless HOOP_POLL_EDGE is given.
 * Errors: -errno. After an error nothing has changed.
 */
#ifndef HOOP_CORE_POLLER_H
#define HOOP_CORE_POLLER_H

#include <stdint.h>

#define HOOP_POLL_READ 1u
#define HOOP_POLL_WRITE 2u
#define HOOP_POLL_BROKEN 4u /* reported, never asked for: error or hang-up */
#define HOOP_POLL_EDGE 8u   /* asked for: report each change once */

struct hoop_poll_event {
    uint64_t token;
    uint32_t events;
};

struct hoop_poller;

struct hoop_poller_type {
    /* Starts watching `fd`; -EEXIST if it is watched, -EPERM if it cannot be. */
    int (*add)(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token);
    /* -ENOENT if `fd` is not watched. */
    int (*modify)(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token);
    int (*remove)(struct hoop_poller *poller, int fd);
    /* Waits up to `timeout_ns` (0: not at all, < 0: for ever). The count of
     * events stored, 0 when the time is up, -EINTR when a signal came. */
    int (*wait)(struct hoop_poller *poller, struct hoop_poll_event *events, int capacity,
                int64_t timeout_ns);
    void (*close)(struct hoop_poller *poller);
};

struct hoop_poller {
    const struct hoop_poller_type *type;
    int fd; /* the backend's own */
};

int hoop_poller_open_epoll(struct hoop_poller *poller);

#endif
