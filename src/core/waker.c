/* SPDX-License-Identifier: MIT */
#include "core/waker.h"

#include <sched.h>

#include "core/assert.h"
#include "core/sys.h"

enum { AWAKE, ASLEEP, WAKING };

int hoop_waker_open(struct hoop_waker *waker) {
    int fd = hoop_sys_eventfd();
    if (fd < 0)
        return fd;
    hoop_atomic_state_init(&waker->state, AWAKE);
    waker->fd = fd;
    return 0;
}

void hoop_waker_close(struct hoop_waker *waker) {
    /* A forked child may find it asleep: the thread that slept stayed in the parent. */
    hoop_atomic_state_store(&waker->state, AWAKE);
    hoop_sys_close(waker->fd);
    waker->fd = -1;
}

void hoop_waker_wake_anythread(struct hoop_waker *waker) {
    if (hoop_atomic_state_load(&waker->state) != ASLEEP)
        return;
    if (!hoop_atomic_state_move(&waker->state, ASLEEP, WAKING))
        return;
    int rc = hoop_sys_eventfd_add(waker->fd, 1);
    HOOP_ASSERT(rc == 0);
    (void)rc;
    hoop_atomic_state_store(&waker->state, AWAKE);
}

void hoop_waker_sleep(struct hoop_waker *waker) {
    hoop_atomic_state_store(&waker->state, ASLEEP);
}

void hoop_waker_rise(struct hoop_waker *waker) {
    if (hoop_atomic_state_move(&waker->state, ASLEEP, AWAKE))
        return;
    while (hoop_atomic_state_load(&waker->state) != AWAKE)
        sched_yield();
}
