/* SPDX-License-Identifier: MIT
 *
 * fake: a poller that reports what the test wrote down, and a clock that goes
 * where the test sets it. What happens is noted as words in a trace, so that a
 * test compares one line of text with what it expects.
 *
 * The poller keeps registrations as epoll does: -EEXIST, -ENOENT, and a
 * registration survives until it is removed or fake_forget plays the kernel.
 * Time: a wait with nothing to report lets its timeout pass.
 * Threads: one.
 */
#ifndef HOOP_TESTS_FAKE_H
#define HOOP_TESTS_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/poller.h"

enum { FAKE_FDS = 1024, FAKE_EVENTS = 16, FAKE_POLL_TICKS = 100 };

struct fake_registration {
    bool is_watched;
    uint32_t events;
    uint64_t token;
};

struct fake {
    int64_t now_ns;
    uint64_t ticks;
    struct fake_registration registrations[FAKE_FDS];
    struct hoop_poll_event events[FAKE_EVENTS]; /* what the next wait reports */
    int event_count;
    int next_error;            /* what the next add, modify or remove returns; 0 is none */
    int wait_error;            /* what the next wait returns; 0 is none */
    void (*during_wait)(void); /* called in the next wait, before it looks for events */
    int64_t timeout_ns;        /* of the last wait */
    bool is_closed;
};

extern struct fake fake;

/* Resets `fake` and the trace: descriptor 0 to FAKE_FDS are there, none is watched. */
void fake_reset(void);
void fake_poller_init(struct hoop_poller *poller);
void fake_clock_init(struct hoop_clock *clock);

/* The next wait reports `events` of `fd`, by the token it is watched with. */
void fake_report(int fd, uint32_t events);
void fake_report_token(uint64_t token, uint32_t events);

/* The kernel drops the registration: the descriptor was closed. */
void fake_forget(int fd);

/* Adds a word to the trace. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The words since the last call, with a blank between them. Valid until the next call. */
const char *trace_take(void);

#endif
