/* SPDX-License-Identifier: MIT
 *
 * waker: brings a loop that blocks in its poller back, from any thread.
 *
 * Owns: an eventfd, watched edge-triggered by the loop's poller, so that it
 *   never has to be read.
 * Threads: wake from any; everything else only from the loop's thread.
 * Cost: one load while the loop is awake; the first wake of a sleep writes.
 *
 * The state, and who moves it:
 *   1. AWAKE -> ASLEEP   the loop, before it blocks (hoop_waker_sleep). It then
 *                        looks once more for work and does not block if it finds some.
 *   2. ASLEEP -> WAKING  the one waker that wins; it alone writes the eventfd.
 *   3. WAKING -> AWAKE   that waker, when it has written.
 *   4. ASLEEP -> AWAKE   the loop (hoop_waker_rise), back for another reason.
 * No wake-up is lost: the other thread stores its work and then loads the
 * state, the loop stores the state and then looks for work, all in one total
 * order, so at least one sees the other. hoop_waker_rise waits out step 3, so
 * the eventfd of a loop that is awake has no writer and may be closed.
 */
#ifndef HOOP_CORE_WAKER_H
#define HOOP_CORE_WAKER_H

#include "core/atomic.h"

struct hoop_waker {
    struct hoop_atomic_state state;
    int fd;
};

int hoop_waker_open(struct hoop_waker *waker);
void hoop_waker_close(struct hoop_waker *waker);

void hoop_waker_wake_anythread(struct hoop_waker *waker);
void hoop_waker_sleep(struct hoop_waker *waker);
void hoop_waker_rise(struct hoop_waker *waker);

#endif
