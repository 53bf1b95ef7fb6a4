/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <unistd.h>

#include "alloc.h"
#include "check.h"
#include "core/watches.h"
#include "fake.h"

enum {
    READ = HOOP_POLL_READ,
    WRITE = HOOP_POLL_WRITE,
    BROKEN = HOOP_POLL_BROKEN,
    EDGE = HOOP_POLL_EDGE
};

static struct hoop_poller poller;
static struct hoop_watches watches;
static struct hoop_watch first, second;
static unsigned long fork_count;
static int callback_result;
static void (*in_callback)(void);

static int on_events(struct hoop_watch *watch, uint32_t events) {
    trace("%s:%s%s", watch == &first ? "first" : "second", events & READ ? "r" : "",
          events & WRITE ? "w" : "");
    if (in_callback != NULL)
        in_callback();
    return callback_result;
}

static void forget(struct hoop_watch *watch) {
    trace("forget:%s", watch == &first ? "first" : "second");
    hoop_watches_stop(&watches, watch);
}

static const struct hoop_watch_type watch_type = {on_events, forget};

static void open_all(void) {
    fake_reset();
    fake_poller_init(&poller);
    fork_count = 0;
    hoop_watches_init(&watches, &poller, &fork_count);
    hoop_watch_init(&first, &watch_type);
    hoop_watch_init(&second, &watch_type);
    callback_result = 0;
    in_callback = NULL;
}

static void close_all(void) {
    hoop_watches_stop(&watches, &first);
    hoop_watches_stop(&watches, &second);
    CHECK_EQ(watches.count, 0);
    hoop_watches_fini(&watches);
}

static int start(struct hoop_watch *watch, int fd, uint32_t wanted) {
    return hoop_watches_start(&watches, watch, fd, wanted);
}

static int want(struct hoop_watch *watch, uint32_t wanted) {
    return hoop_watches_want(&watches, watch, wanted);
}

/* An event of the descriptor's registration, as the poller would report it. */
static int event(int fd, uint32_t events) {
    REQUIRE(fake.registrations[fd].is_watched);
    struct hoop_poll_event found = {fake.registrations[fd].token, events};
    return hoop_watches_dispatch(&watches, &found);
}

static int late_event(uint64_t token, uint32_t events) {
    struct hoop_poll_event found = {token, events};
    return hoop_watches_dispatch(&watches, &found);
}

static void test_start_finds_and_stop_forgets(void) {
    open_all();
    CHECK(hoop_watches_find(&watches, 5) == NULL);
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK(hoop_watches_find(&watches, 5) == &first);
    CHECK(hoop_watches_find(&watches, 6) == NULL);
    CHECK(hoop_watches_find(&watches, 100000) == NULL);
    CHECK(hoop_watches_find(&watches, -1) == NULL);
    CHECK_EQ(watches.count, 1);
    hoop_watches_stop(&watches, &first);
    CHECK(hoop_watches_find(&watches, 5) == NULL);
    CHECK_EQ(first.fd, -1);
    CHECK_EQ(watches.count, 0);
    hoop_watches_stop(&watches, &first);
    CHECK_TEXT(trace_take(), "add:5:r remove:5");
    close_all();
}

static void test_forget_frees_the_descriptor(void) {
    open_all();
    hoop_watches_forget(&watches, 5);
    CHECK_EQ(start(&first, 5, READ), 0);
    hoop_watches_forget(&watches, 5);
    CHECK_EQ(start(&second, 5, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:r forget:first remove:5 add:5:r");
    close_all();
}

static void test_one_watch_for_a_descriptor(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(start(&second, 5, WRITE), -EEXIST);
    CHECK_EQ(second.fd, -1);
    CHECK(hoop_watches_find(&watches, 5) == &first);
    CHECK_TEXT(trace_take(), "add:5:r");
    close_all();
}

static void test_start_refused_leaves_no_trace(void) {
    open_all();
    CHECK_EQ(start(&first, -1, READ), -EBADF);
    fake.next_error = -EPERM;
    CHECK_EQ(start(&first, 5, READ), -EPERM);
    CHECK_EQ(first.fd, -1);
    CHECK_EQ(watches.count, 0);
    CHECK(hoop_watches_find(&watches, 5) == NULL);
    CHECK_EQ(start(&second, 5, READ), 0);
    close_all();
}

static void test_dispatch_hands_over_what_is_wanted(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ | WRITE), 0);
    CHECK_EQ(start(&second, 6, READ), 0);
    trace_take();
    CHECK_EQ(event(5, READ), 0);
    CHECK_EQ(event(5, READ | WRITE), 0);
    CHECK_EQ(event(6, READ), 0);
    CHECK_TEXT(trace_take(), "first:r first:rw second:r");
    callback_result = -7;
    CHECK_EQ(event(6, READ), -7);
    close_all();
}

static void test_broken_is_whatever_is_wanted(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(start(&second, 6, READ | WRITE), 0);
    trace_take();
    event(5, BROKEN);
    event(6, BROKEN);
    event(6, BROKEN | READ);
    CHECK_TEXT(trace_take(), "first:r second:rw second:rw");
    close_all();
}

static void test_start_with_nothing_wanted_asks_the_poller_nothing(void) {
    open_all();
    CHECK_EQ(start(&first, 5, 0), 0);
    CHECK(hoop_watches_find(&watches, 5) == &first);
    CHECK_TEXT(trace_take(), "");
    CHECK_EQ(want(&first, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:r");
    close_all();
}

static void test_pausing_reads_costs_nothing_until_an_event_comes(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    trace_take();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(want(&first, 0), 0);
        CHECK_EQ(want(&first, READ), 0);
    }
    CHECK_TEXT(trace_take(), "");
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "remove:5");
    CHECK_EQ(want(&first, READ), 0);
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:r first:r");
    close_all();
}

static void test_paused_reader_that_writes_is_told_of_writing_only(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(want(&first, WRITE), 0);
    CHECK_EQ(event(5, READ | WRITE), 0);
    CHECK_EQ(want(&first, READ | WRITE), 0);
    CHECK_TEXT(trace_take(), "add:5:r modify:5:w first:w modify:5:rw");
    close_all();
}

static void test_interest_in_writing_ends_at_once(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(want(&first, READ | WRITE), 0);
    CHECK_EQ(want(&first, READ), 0);
    CHECK_EQ(want(&first, WRITE), 0);
    CHECK_EQ(want(&first, 0), 0);
    CHECK_TEXT(trace_take(), "add:5:r modify:5:rw modify:5:r modify:5:w remove:5");
    close_all();
}

static void test_unwanted_part_of_an_event_is_kept_back(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ | WRITE), 0);
    CHECK_EQ(want(&first, WRITE), 0); /* lazy: reading stays armed */
    trace_take();
    CHECK_EQ(event(5, READ | WRITE), 0);
    CHECK_TEXT(trace_take(), "first:w");
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "modify:5:w");
    close_all();
}

static void test_by_edges_starting_and_stopping_costs_nothing(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ | EDGE), 0);
    CHECK_TEXT(trace_take(), "add:5:re");
    CHECK_EQ(event(5, READ), 0);
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(event(5, READ), 0); /* between two waits: reported once, so it may stay */
    CHECK_EQ(event(5, BROKEN), 0);
    CHECK_EQ(want(&first, READ | EDGE), 0);
    CHECK_TEXT(trace_take(), "first:r");
    close_all();
}

static void test_by_edges_writing_stays_until_it_is_reported(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ | EDGE), 0);
    CHECK_EQ(want(&first, WRITE | EDGE), 0); /* reading stays beside it */
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(want(&first, WRITE | EDGE), 0);
    CHECK_TEXT(trace_take(), "add:5:re modify:5:rwe");
    CHECK_EQ(want(&first, READ | EDGE), 0);
    CHECK_EQ(event(5, WRITE), 0);
    CHECK_EQ(event(5, WRITE | READ), 0);
    CHECK_TEXT(trace_take(), "modify:5:re first:r");
    close_all();
}

static void test_edges_and_levels_change_at_once(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ | EDGE), 0);
    CHECK_EQ(want(&first, READ), 0);
    CHECK_EQ(want(&first, READ | EDGE), 0);
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(want(&first, READ), 0);
    CHECK_EQ(want(&first, 0), 0);
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:re modify:5:r modify:5:re modify:5:r remove:5");
    close_all();
}

static void test_broken_descriptor_nobody_wants_leaves_the_poller(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(want(&first, 0), 0);
    trace_take();
    CHECK_EQ(event(5, BROKEN), 0);
    CHECK_TEXT(trace_take(), "remove:5");
    CHECK(!fake.registrations[5].is_watched);
    CHECK_EQ(want(&first, READ), 0);
    CHECK_EQ(event(5, BROKEN), 0);
    CHECK_TEXT(trace_take(), "add:5:r first:r");
    close_all();
}

static void test_event_of_a_stopped_watch_reaches_nobody(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    uint64_t token = fake.registrations[5].token;
    hoop_watches_stop(&watches, &first);
    trace_take();
    CHECK_EQ(late_event(token, READ), 0);
    CHECK_TEXT(trace_take(), "");
    close_all();
}

static void test_event_of_a_closed_descriptor_never_reaches_its_successor(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    uint64_t token = fake.registrations[5].token;
    hoop_watches_stop(&watches, &first);
    CHECK_EQ(start(&second, 5, READ), 0);
    trace_take();
    CHECK_EQ(late_event(token, READ | BROKEN), 0);
    CHECK_TEXT(trace_take(), "");
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "second:r");
    close_all();
}

static void test_event_of_an_unknown_descriptor_reaches_nobody(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    trace_take();
    CHECK_EQ(late_event(UINT64_C(1) << 32 | 6, READ), 0);
    CHECK_EQ(late_event(UINT64_C(1) << 32 | 100000, READ), 0);
    CHECK_EQ(late_event(UINT64_MAX, READ), 0);
    CHECK_TEXT(trace_take(), "");
    close_all();
}

static void stop_first(void) {
    hoop_watches_stop(&watches, &first);
    first.type = NULL; /* as if its owner had freed it */
}

static void test_callback_may_stop_its_own_watch(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    in_callback = stop_first;
    uint64_t token = fake.registrations[5].token;
    CHECK_EQ(event(5, READ), 0);
    CHECK_EQ(watches.count, 0);
    CHECK_EQ(late_event(token, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:r first:r remove:5");
    close_all();
}

static void test_callback_may_stop_a_watch_whose_event_is_next(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_EQ(start(&second, 6, READ), 0);
    uint64_t token = fake.registrations[5].token;
    in_callback = stop_first;
    CHECK_EQ(event(6, READ), 0);
    CHECK_EQ(late_event(token, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:r add:6:r second:r remove:5");
    close_all();
}

static void test_registration_that_vanished_is_made_anew(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    fake_forget(5);
    CHECK_EQ(want(&first, READ | WRITE), 0);
    CHECK_TEXT(trace_take(), "add:5:r modify:5:rw add:5:rw");
    CHECK_EQ(event(5, WRITE), 0);
    CHECK_TEXT(trace_take(), "first:w");
    fake_forget(5);
    hoop_watches_stop(&watches, &first);
    CHECK_EQ(watches.count, 0);
    close_all();
}

static void test_registration_left_behind_is_taken_over(void) {
    open_all();
    CHECK_EQ(poller.type->add(&poller, 5, WRITE, 99), 0);
    CHECK_EQ(start(&first, 5, READ), 0);
    CHECK_TEXT(trace_take(), "add:5:w add:5:r modify:5:r");
    CHECK_EQ(late_event(99, WRITE), 0);
    CHECK_TEXT(trace_take(), "");
    CHECK_EQ(event(5, READ), 0);
    CHECK_TEXT(trace_take(), "first:r");
    close_all();
}

static void test_real_descriptor_closed_and_reused_behind_our_back(void) {
    open_all();
    int ends[2], others[2];
    struct hoop_poll_event found;
    REQUIRE(hoop_poller_open_epoll(&poller) == 0);
    REQUIRE(pipe(ends) == 0 && pipe(others) == 0);
    CHECK_EQ(start(&first, ends[1], READ), 0);
    REQUIRE(dup2(others[1], ends[1]) == ends[1]); /* closes it first */
    CHECK_EQ(want(&first, WRITE), 0);
    REQUIRE(poller.type->wait(&poller, &found, 1, 0) == 1);
    CHECK_EQ(hoop_watches_dispatch(&watches, &found), 0);
    CHECK_TEXT(trace_take(), "first:w");
    close_all();
    poller.type->close(&poller);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(others[i]);
    }
}

static void test_failed_want_changes_nothing(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    trace_take();
    fake.next_error = -ENOMEM;
    CHECK_EQ(want(&first, READ | WRITE), -ENOMEM);
    CHECK_EQ(event(5, READ | WRITE), 0);
    CHECK_TEXT(trace_take(), "modify:5:rw first:r");
    CHECK_EQ(want(&first, READ | WRITE), 0);
    CHECK_EQ(event(5, READ | WRITE), 0);
    CHECK_TEXT(trace_take(), "modify:5:rw first:rw");
    close_all();
}

static void test_after_a_fork_the_poller_is_left_alone(void) {
    open_all();
    CHECK_EQ(start(&first, 5, READ), 0);
    trace_take();
    CHECK(!hoop_watches_are_inherited(&watches));
    fork_count++;
    CHECK(hoop_watches_are_inherited(&watches));
    CHECK_EQ(want(&first, READ | WRITE), 0);
    CHECK_EQ(want(&first, 0), 0);
    hoop_watches_stop(&watches, &first);
    CHECK_EQ(start(&second, 6, READ), 0);
    hoop_watches_stop(&watches, &second);
    CHECK_TEXT(trace_take(), "");
    CHECK(fake.registrations[5].is_watched);
    CHECK_EQ(watches.count, 0);
    close_all();
}

static void test_table_grows_to_any_descriptor(void) {
    open_all();
    CHECK_EQ(start(&first, 3, READ), 0);
    int beyond = (int)watches.slot_count; /* the first that has no place yet */
    CHECK(hoop_watches_find(&watches, beyond) == NULL);
    CHECK_EQ(start(&second, beyond, READ), 0);
    CHECK(watches.slot_count > (size_t)beyond);
    hoop_watches_stop(&watches, &second);
    CHECK_EQ(start(&second, 900, READ), 0);
    CHECK(watches.slot_count > 900);
    CHECK(hoop_watches_find(&watches, 3) == &first);
    CHECK(hoop_watches_find(&watches, 900) == &second);
    for (int fd = 4; fd < 900; fd++)
        CHECK(hoop_watches_find(&watches, fd) == NULL);
    trace_take();
    event(3, READ);
    event(900, READ);
    CHECK_TEXT(trace_take(), "first:r second:r");
    close_all();
}

static void test_without_memory_nothing_changes(void) {
    open_all();
    alloc_fail_all();
    CHECK_EQ(start(&first, 5, READ), -ENOMEM);
    CHECK_EQ(first.fd, -1);
    alloc_succeed();
    CHECK_EQ(start(&first, 5, READ), 0);
    alloc_fail_all();
    CHECK_EQ(start(&second, 900, READ), -ENOMEM);
    alloc_succeed();
    CHECK_EQ(watches.count, 1);
    CHECK(hoop_watches_find(&watches, 5) == &first);
    CHECK_EQ(second.fd, -1);
    CHECK_TEXT(trace_take(), "add:5:r");
    close_all();
}

int main(void) {
    RUN(test_start_finds_and_stop_forgets);
    RUN(test_forget_frees_the_descriptor);
    RUN(test_one_watch_for_a_descriptor);
    RUN(test_start_refused_leaves_no_trace);
    RUN(test_dispatch_hands_over_what_is_wanted);
    RUN(test_broken_is_whatever_is_wanted);
    RUN(test_start_with_nothing_wanted_asks_the_poller_nothing);
    RUN(test_pausing_reads_costs_nothing_until_an_event_comes);
    RUN(test_paused_reader_that_writes_is_told_of_writing_only);
    RUN(test_interest_in_writing_ends_at_once);
    RUN(test_unwanted_part_of_an_event_is_kept_back);
    RUN(test_by_edges_starting_and_stopping_costs_nothing);
    RUN(test_by_edges_writing_stays_until_it_is_reported);
    RUN(test_edges_and_levels_change_at_once);
    RUN(test_broken_descriptor_nobody_wants_leaves_the_poller);
    RUN(test_event_of_a_stopped_watch_reaches_nobody);
    RUN(test_event_of_a_closed_descriptor_never_reaches_its_successor);
    RUN(test_event_of_an_unknown_descriptor_reaches_nobody);
    RUN(test_callback_may_stop_its_own_watch);
    RUN(test_callback_may_stop_a_watch_whose_event_is_next);
    RUN(test_registration_that_vanished_is_made_anew);
    RUN(test_registration_left_behind_is_taken_over);
    RUN(test_real_descriptor_closed_and_reused_behind_our_back);
    RUN(test_failed_want_changes_nothing);
    RUN(test_after_a_fork_the_poller_is_left_alone);
    RUN(test_table_grows_to_any_descriptor);
    RUN(test_without_memory_nothing_changes);
    return check_report();
}
