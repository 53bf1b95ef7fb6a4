/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

struct fake fake;

static char trace_text[4096];
static size_t trace_length;

void trace(const char *format, ...) {
    if (trace_length > 0)
        trace_text[trace_length++] = ' ';
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(trace_text + trace_length, sizeof(trace_text) - trace_length - 1, format,
                           arguments);
    va_end(arguments);
    REQUIRE(length > 0 && (size_t)length < sizeof(trace_text) - trace_length - 1);
    trace_length += (size_t)length;
}

const char *trace_take(void) {
    static char taken[sizeof(trace_text)];
    memcpy(taken, trace_text, trace_length);
    taken[trace_length] = '\0';
    trace_length = 0;
    return taken;
}

/* "add:5:rw", one letter for each event asked for. */
static void trace_call(const char *call, int fd, uint32_t events) {
    trace("%s:%d:%s%s%s", call, fd, events & HOOP_POLL_READ ? "r" : "",
          events & HOOP_POLL_WRITE ? "w" : "", events & HOOP_POLL_EDGE ? "e" : "");
}

static int take_error(int *error) {
    int rc = *error;
    *error = 0;
    return rc;
}

static int fake_add(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token) {
    (void)poller;
    REQUIRE(fd >= 0 && fd < FAKE_FDS);
    trace_call("add", fd, events);
    int rc = take_error(&fake.next_error);
    if (rc < 0)
        return rc;
    if (fake.registrations[fd].is_watched)
        return -EEXIST;
    fake.registrations[fd] = (struct fake_registration){true, events, token};
    return 0;
}

static int fake_modify(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token) {
    (void)poller;
    trace_call("modify", fd, events);
    int rc = take_error(&fake.next_error);
    if (rc < 0)
        return rc;
    if (!fake.registrations[fd].is_watched)
        return -ENOENT;
    fake.registrations[fd] = (struct fake_registration){true, events, token};
    return 0;
}

static int fake_remove(struct hoop_poller *poller, int fd) {
    (void)poller;
    trace("remove:%d", fd);
    int rc = take_error(&fake.next_error);
    if (rc < 0)
        return rc;
    if (!fake.registrations[fd].is_watched)
        return -ENOENT;
    fake.registrations[fd].is_watched = false;
    return 0;
}

static int fake_wait(struct hoop_poller *poller, struct hoop_poll_event *events, int capacity,
                     int64_t timeout_ns) {
    (void)poller;
    trace("wait");
    fake.timeout_ns = timeout_ns;
    void (*during_wait)(void) = fake.during_wait;
    fake.during_wait = NULL;
    if (during_wait != NULL)
        during_wait();
    int rc = take_error(&fake.wait_error);
    if (rc < 0)
        return rc;
    int count = fake.event_count;
    REQUIRE(count <= capacity);
    if (count == 0 && timeout_ns > 0)
        fake.now_ns += timeout_ns;
    memcpy(events, fake.events, (size_t)count * sizeof(*events));
    fake.event_count = 0;
    return count;
}

static void fake_close(struct hoop_poller *poller) {
    (void)poller;
    CHECK(!fake.is_closed);
    fake.is_closed = true;
}

static const struct hoop_poller_type fake_type = {
    .add = fake_add,
    .modify = fake_modify,
    .remove = fake_remove,
    .wait = fake_wait,
    .close = fake_close,
};

static int64_t fake_now_ns(const struct hoop_clock *clock) {
    (void)clock;
    return fake.now_ns;
}

static uint64_t fake_ticks(const struct hoop_clock *clock) {
    (void)clock;
    return fake.ticks;
}

void fake_reset(void) {
    fake = (struct fake){.now_ns = 1000000000, .ticks = 1000000};
    trace_length = 0;
}

void fake_poller_init(struct hoop_poller *poller) {
    *poller = (struct hoop_poller){&fake_type, -1};
}

void fake_clock_init(struct hoop_clock *clock) {
    *clock = (struct hoop_clock){fake_now_ns, fake_ticks, FAKE_POLL_TICKS};
}

void fake_report_token(uint64_t token, uint32_t events) {
    REQUIRE(fake.event_count < FAKE_EVENTS);
    fake.events[fake.event_count++] = (struct hoop_poll_event){token, events};
}

void fake_report(int fd, uint32_t events) {
    REQUIRE(fake.registrations[fd].is_watched);
    fake_report_token(fake.registrations[fd].token, events);
}

void fake_forget(int fd) {
    fake.registrations[fd].is_watched = false;
}
