/* SPDX-License-Identifier: MIT
 *
 * clock: where the loop reads time, so that a test can set it.
 *
 * Time: `now_ns` is CLOCK_MONOTONIC in nanoseconds, the clock of Python's
 *   time.monotonic(). `ticks` is a coarse, cheap counter (the processor's time
 *   stamp) that only decides how long a busy loop may go without polling: its
 *   rate differs between machines, so it is never converted to time.
 */
#ifndef HOOP_CORE_CLOCK_H
#define HOOP_CORE_CLOCK_H

#include <stdint.h>

struct hoop_clock {
    int64_t (*now_ns)(const struct hoop_clock *clock);
    uint64_t (*ticks)(const struct hoop_clock *clock);
    uint64_t poll_ticks; /* ticks a busy loop may run between two polls: 6 to 25 us */
};

/* The machine's clock. */
void hoop_clock_init(struct hoop_clock *clock);

#endif
