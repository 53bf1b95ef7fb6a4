/* SPDX-License-Identifier: MIT */
#include <time.h>

#include "check.h"
#include "core/clock.h"

static int64_t monotonic_ns(void) {
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void test_time_is_the_monotonic_clock(void) {
    struct hoop_clock clock;
    hoop_clock_init(&clock);
    for (int i = 0; i < 1000; i++) {
        int64_t before_ns = monotonic_ns();
        int64_t now_ns = clock.now_ns(&clock);
        int64_t after_ns = monotonic_ns();
        CHECK(before_ns <= now_ns && now_ns <= after_ns);
    }
}

static void test_ticks_go_on(void) {
    struct hoop_clock clock;
    hoop_clock_init(&clock);
    uint64_t first = clock.ticks(&clock);
    int64_t end_ns = clock.now_ns(&clock) + 1000000;
    while (clock.now_ns(&clock) < end_ns)
        ;
    CHECK(clock.ticks(&clock) > first);
}

/* Both at once: again if this thread was paused between the two. */
static void read_both(const struct hoop_clock *clock, int64_t *now_ns, uint64_t *ticks) {
    int64_t after_ns;
    do {
        *now_ns = clock->now_ns(clock);
        *ticks = clock->ticks(clock);
        after_ns = clock->now_ns(clock);
    } while (after_ns - *now_ns > 20000);
}

/* The bounds are those of clock.h with a factor of two for odd processors. */
static void test_poll_ticks_are_some_microseconds(void) {
    struct hoop_clock clock;
    hoop_clock_init(&clock);
    int64_t start_ns, end_ns;
    uint64_t start, end;
    read_both(&clock, &start_ns, &start);
    do
        read_both(&clock, &end_ns, &end);
    while (end_ns - start_ns < 1000000);
    double ticks_per_us = (double)(end - start) * 1e3 / (double)(end_ns - start_ns);
    double poll_us = (double)clock.poll_ticks / ticks_per_us;
    CHECK(poll_us > 4 && poll_us < 64);
}

int main(void) {
    RUN(test_time_is_the_monotonic_clock);
    RUN(test_ticks_go_on);
    RUN(test_poll_ticks_are_some_microseconds);
    return check_report();
}
