/* SPDX-License-Identifier: MIT */
#include "core/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "alloc.h"
#include "check.h"
#include "fake.h"

enum { READ = HOOP_POLL_READ, FD = 500, ITEMS = 200 };

/* A loop on the fake poller and clock, and items that note their number in the trace. */
struct work {
    struct hoop_timer timer; /* `timer.item` serves as the plain item */
    int number;
    int result;
    void (*action)(void); /* called when it runs or is dropped */
    int runs;
    int drops;
};

static struct hoop_loop loop;
static struct work works[ITEMS];

static struct work *work_of(struct hoop_item *item) {
    return HOOP_CONTAINER_OF(item, struct work, timer.item);
}

static int run_work(struct hoop_item *item) {
    struct work *work = work_of(item);
    work->runs++;
    trace("%d", work->number);
    if (work->action != NULL)
        work->action();
    return work->result;
}

static void drop_work(struct hoop_item *item) {
    struct work *work = work_of(item);
    work->drops++;
    trace("drop:%d", work->number);
    if (work->action != NULL)
        work->action();
}

static const struct hoop_item_type work_type = {run_work, drop_work};

static void before_block(struct hoop_loop *of) {
    CHECK(of == &loop);
    trace("release");
}

static void after_block(struct hoop_loop *of) {
    CHECK(of == &loop);
    trace("acquire");
}

static unsigned long fork_count;
static const struct hoop_loop_hooks hooks = {before_block, after_block, &fork_count};

static int open_with(const struct hoop_loop_hooks *chosen) {
    struct hoop_poller poller;
    struct hoop_clock clock;
    fake_poller_init(&poller);
    fake_clock_init(&clock);
    return hoop_loop_open(&loop, &poller, &clock, chosen);
}

static void open_loop(void) {
    fake_reset();
    for (int i = 0; i < ITEMS; i++) {
        works[i] = (struct work){.number = i};
        hoop_timer_init(&works[i].timer, &work_type);
    }
    REQUIRE(open_with(&hooks) == 0);
    trace_take();
}

static void close_loop(void) {
    hoop_loop_close(&loop);
    CHECK(fake.is_closed);
    trace_take();
}

static void give(int number) {
    CHECK_EQ(hoop_loop_give(&loop, &works[number].timer.item), 0);
}

static void arm(int number, int64_t deadline_ns) {
    CHECK_EQ(hoop_timers_arm(&loop.timers, &works[number].timer, deadline_ns), 0);
}

static void push(int number) {
    CHECK_EQ(hoop_loop_push_anythread(&loop, &works[number].timer.item), 0);
}

static const char *iterate(void) {
    CHECK_EQ(hoop_loop_iterate(&loop), 0);
    return trace_take();
}

/* A watch that notes its event and then does what the test asks. */
static int (*watch_action)(void);

static int on_events(struct hoop_watch *watch, uint32_t events) {
    (void)watch;
    CHECK_EQ(events, READ);
    trace("event");
    return watch_action != NULL ? watch_action() : 0;
}

static const struct hoop_watch_type watch_type = {.on_events = on_events};

static struct hoop_watch watch;

static void start_watch(int (*action)(void)) {
    watch_action = action;
    hoop_watch_init(&watch, &watch_type);
    REQUIRE(hoop_watches_start(&loop.watches, &watch, FD, READ) == 0);
    trace_take();
}

static void stop_watch(void) {
    hoop_watches_stop(&loop.watches, &watch);
    trace_take();
}

/* Flushes note their letter. */
struct named_flush {
    struct hoop_flush flush;
    char name;
    void (*action)(void);
    int result;
};

static int run_named_flush(struct hoop_flush *flush) {
    struct named_flush *named = HOOP_CONTAINER_OF(flush, struct named_flush, flush);
    trace("flush:%c", named->name);
    if (named->action != NULL)
        named->action();
    return named->result;
}

static struct named_flush flush_a, flush_b;

static void reset_flushes(void) {
    flush_a = (struct named_flush){.flush.run = run_named_flush, .name = 'a'};
    flush_b = (struct named_flush){.flush.run = run_named_flush, .name = 'b'};
}

static void defer_a(void) {
    hoop_loop_defer(&loop, &flush_a.flush);
}

static void defer_b(void) {
    hoop_loop_defer(&loop, &flush_b.flush);
}

/* ---- the ready queue ---- */

static void test_items_run_in_the_order_they_were_given(void) {
    open_loop();
    for (int i = 0; i < 5; i++)
        give(i);
    CHECK_TEXT(iterate(), "wait 0 1 2 3 4");
    close_loop();
}

static void give_2(void) {
    give(2);
}

static void test_what_is_given_while_items_run_waits_a_round(void) {
    open_loop();
    works[0].action = give_2;
    give(0);
    give(1);
    CHECK_TEXT(iterate(), "wait 0 1");
    CHECK_TEXT(iterate(), "2");
    close_loop();
}

static void test_negative_result_leaves_and_the_rest_stays_queued(void) {
    open_loop();
    works[1].result = -7;
    for (int i = 0; i < 4; i++)
        give(i);
    CHECK_EQ(hoop_loop_iterate(&loop), -7);
    CHECK_TEXT(trace_take(), "wait 0 1");
    CHECK_TEXT(iterate(), "2 3");
    close_loop();
}

static void iterate_inside(void) {
    CHECK_EQ(hoop_loop_iterate(&loop), 0);
}

static void test_nested_iteration_runs_the_rest_and_nothing_twice(void) {
    open_loop();
    works[1].action = iterate_inside;
    for (int i = 0; i < 4; i++)
        give(i);
    CHECK_TEXT(iterate(), "wait 0 1 2 3");
    for (int i = 0; i < 4; i++)
        CHECK_EQ(works[i].runs, 1);
    CHECK_EQ(loop.stats.callbacks, 4);
    close_loop();
}

static void test_many_items_run_in_one_round(void) {
    open_loop();
    for (int i = 0; i < ITEMS; i++)
        give(i);
    iterate();
    for (int i = 0; i < ITEMS; i++)
        CHECK_EQ(works[i].runs, 1);
    close_loop();
}

/* ---- how long it waits ---- */

static void test_waits_for_ever_without_timers(void) {
    open_loop();
    CHECK_TEXT(iterate(), "release wait acquire");
    CHECK_EQ(fake.timeout_ns, -1);
    close_loop();
}

static void test_waits_for_the_next_timer(void) {
    open_loop();
    arm(0, fake.now_ns + 700);
    arm(1, fake.now_ns + 300);
    CHECK_TEXT(iterate(), "release wait acquire 1");
    CHECK_EQ(fake.timeout_ns, 300);
    CHECK_TEXT(iterate(), "release wait acquire 0");
    CHECK_EQ(fake.timeout_ns, 400);
    close_loop();
}

static void test_does_not_wait_for_a_timer_that_is_due(void) {
    open_loop();
    arm(0, fake.now_ns);
    arm(1, INT64_MIN);
    CHECK_TEXT(iterate(), "wait 1 0");
    CHECK_EQ(fake.timeout_ns, 0);
    close_loop();
}

static void test_waits_for_the_farthest_timer_without_overflow(void) {
    open_loop();
    arm(0, INT64_MAX);
    fake.wait_error = -EINTR;
    iterate();
    CHECK_EQ(fake.timeout_ns, INT64_MAX - fake.now_ns);
    CHECK_EQ(works[0].runs, 0);
    close_loop();
}

static void test_does_not_wait_with_items_ready(void) {
    open_loop();
    arm(1, fake.now_ns + 100);
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    CHECK_EQ(fake.timeout_ns, 0);
    close_loop();
}

static void test_does_not_wait_while_stopping(void) {
    open_loop();
    loop.is_stopping = true;
    fake.timeout_ns = -2;
    CHECK_TEXT(iterate(), "wait");
    CHECK_EQ(fake.timeout_ns, 0);
    arm(0, fake.now_ns + 100);
    CHECK_TEXT(iterate(), "wait");
    CHECK_EQ(fake.timeout_ns, 0);
    close_loop();
}

/* ---- timers ---- */

static void come_back_early(void) {
    fake.now_ns += 299;
    fake_report(FD, READ);
}

static void test_timer_is_never_early(void) {
    open_loop();
    start_watch(NULL);
    arm(0, fake.now_ns + 300);
    fake.during_wait = come_back_early;
    CHECK_TEXT(iterate(), "release wait acquire event");
    CHECK_TEXT(iterate(), "release wait acquire 0");
    CHECK_EQ(fake.timeout_ns, 1);
    stop_watch();
    close_loop();
}

static void test_timers_run_by_deadline_then_by_turn(void) {
    open_loop();
    arm(0, fake.now_ns + 20);
    arm(1, fake.now_ns + 10);
    arm(2, fake.now_ns + 20);
    arm(3, fake.now_ns + 10);
    fake.now_ns += 50;
    CHECK_TEXT(iterate(), "wait 1 3 0 2");
    close_loop();
}

static void test_timer_runs_behind_items_given_before_it_was_due(void) {
    open_loop();
    arm(0, fake.now_ns);
    give(1);
    give(2);
    CHECK_TEXT(iterate(), "wait 1 2 0");
    close_loop();
}

static void arm_2_now(void) {
    arm(2, fake.now_ns);
}

static void test_timer_armed_by_an_item_waits_a_round(void) {
    open_loop();
    works[0].action = arm_2_now;
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    CHECK_TEXT(iterate(), "wait 2");
    close_loop();
}

static void test_cancelled_timer_does_not_run(void) {
    open_loop();
    arm(0, fake.now_ns + 10);
    hoop_timers_cancel(&loop.timers, &works[0].timer);
    iterate();
    CHECK_EQ(fake.timeout_ns, -1);
    CHECK_EQ(works[0].runs, 0);
    close_loop();
}

static void test_busy_loop_still_sees_its_timers(void) {
    open_loop();
    arm(0, fake.now_ns + 10);
    fake.now_ns += 10;
    fake.ticks += FAKE_POLL_TICKS;
    give(1);
    CHECK_TEXT(iterate(), "wait 1 0");
    CHECK_EQ(fake.timeout_ns, 0);
    close_loop();
}

/* ---- when it polls ---- */

static void test_busy_loop_polls_by_ticks(void) {
    open_loop();
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    fake.ticks += FAKE_POLL_TICKS - 1;
    give(0);
    CHECK_TEXT(iterate(), "0");
    fake.ticks += 1;
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    give(0);
    CHECK_TEXT(iterate(), "0");
    close_loop();
}

static void test_ticks_that_go_back_make_it_poll(void) {
    open_loop();
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    fake.ticks--; /* another processor's counter */
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    close_loop();
}

static void test_polls_again_after_it_found_events(void) {
    open_loop();
    start_watch(NULL);
    fake_report(FD, READ);
    give(0);
    fake.ticks += FAKE_POLL_TICKS;
    CHECK_TEXT(iterate(), "wait event 0");
    give(0);
    CHECK_TEXT(iterate(), "wait 0");
    give(0);
    CHECK_TEXT(iterate(), "0");
    stop_watch();
    close_loop();
}

static void test_poll_every_round(void) {
    open_loop();
    loop.poll_every_round = true;
    for (int i = 0; i < 3; i++) {
        give(0);
        CHECK_TEXT(iterate(), "wait 0");
    }
    close_loop();
}

static void test_polls_whenever_nothing_is_ready(void) {
    open_loop();
    loop.is_stopping = true;
    for (int i = 0; i < 3; i++)
        CHECK_TEXT(iterate(), "wait");
    close_loop();
}

/* ---- events ---- */

static int give_1_and_defer(void) {
    give(1);
    defer_a();
    return 0;
}

static void test_order_of_the_phases(void) {
    open_loop();
    reset_flushes();
    start_watch(give_1_and_defer);
    arm(2, fake.now_ns);
    works[0].action = defer_b;
    give(0);
    fake.ticks += FAKE_POLL_TICKS;
    fake_report(FD, READ);
    CHECK_TEXT(iterate(), "wait event flush:a 0 1 2 flush:b");
    stop_watch();
    close_loop();
}

static int leave(void) {
    give(1);
    defer_a();
    return -7;
}

static void test_watch_that_leaves_keeps_the_rest_for_later(void) {
    open_loop();
    reset_flushes();
    start_watch(leave);
    arm(2, fake.now_ns);
    fake_report(FD, READ);
    fake_report(FD, READ); /* not handed over: leaving means at once */
    CHECK_EQ(hoop_loop_iterate(&loop), -7);
    CHECK_TEXT(trace_take(), "wait event");
    CHECK_TEXT(iterate(), "wait flush:a 1 2");
    stop_watch();
    close_loop();
}

static int stop_itself(void) {
    hoop_watches_stop(&loop.watches, &watch);
    return 0;
}

static void test_second_event_of_a_stopped_watch_is_dropped(void) {
    open_loop();
    start_watch(stop_itself);
    fake_report(FD, READ);
    fake_report(FD, READ);
    CHECK_TEXT(iterate(), "release wait acquire event remove:500");
    close_loop();
}

static void signal_handler_pushes(void) {
    fake.wait_error = -EINTR;
    push(0);
}

static void test_interrupted_wait_goes_on_with_the_iteration(void) {
    open_loop();
    fake.during_wait = signal_handler_pushes;
    CHECK_TEXT(iterate(), "release wait acquire 0");
    CHECK_EQ(loop.stats.events, 0);
    close_loop();
}

static void test_error_of_the_poller_is_not_hidden(void) {
    open_loop();
    reset_flushes();
    arm(0, fake.now_ns);
    fake.wait_error = -EBADF;
    CHECK_EQ(hoop_loop_iterate(&loop), -EBADF);
    CHECK_TEXT(trace_take(), "wait");
    CHECK_TEXT(iterate(), "0"); /* and nothing was lost */
    close_loop();
}

static int note_crowd(void) {
    trace(loop.is_crowded ? "crowd" : "few");
    return 0;
}

static void test_a_crowd_is_four_events_of_one_poll(void) {
    open_loop();
    start_watch(note_crowd);
    for (int i = 0; i < 3; i++)
        fake_report(FD, READ);
    CHECK_TEXT(iterate(), "release wait acquire event few event few event few");
    for (int i = 0; i < 4; i++)
        fake_report(FD, READ);
    CHECK_TEXT(iterate(), "release wait acquire event crowd event crowd event crowd event crowd");
    CHECK_TEXT(iterate(), "release wait acquire");
    CHECK(!loop.is_crowded);
    stop_watch();
    close_loop();
}

/* ---- flushes ---- */

static void defer_a_three_times(void) {
    for (int i = 0; i < 3; i++)
        defer_a();
}

static void test_flush_runs_once_at_the_end_of_the_phase(void) {
    open_loop();
    reset_flushes();
    works[0].action = defer_a_three_times;
    works[1].action = defer_b;
    works[2].action = defer_a;
    for (int i = 0; i < 4; i++)
        give(i);
    CHECK_TEXT(iterate(), "wait 0 1 2 3 flush:a flush:b");
    give(2);
    CHECK_TEXT(iterate(), "2 flush:a");
    give(3);
    CHECK_TEXT(iterate(), "3");
    close_loop();
}

static void test_flush_deferred_between_iterations_runs_in_the_next(void) {
    open_loop();
    reset_flushes();
    defer_b();
    defer_a();
    CHECK_TEXT(iterate(), "release wait acquire flush:b flush:a");
    close_loop();
}

static void let_long_pass(void) {
    fake.ticks += 1000 * FAKE_POLL_TICKS;
}

static void test_flush_does_not_wait_for_a_long_phase(void) {
    open_loop();
    reset_flushes();
    works[0].action = defer_a;
    works[1].action = let_long_pass;
    works[3].action = defer_b;
    for (int i = 0; i < 5; i++)
        give(i);
    CHECK_TEXT(iterate(), "wait 0 1 flush:a 2 3 4 flush:b");
    close_loop();
}

static int defer_a_and_let_long_pass(void) {
    defer_a();
    let_long_pass();
    return 0;
}

static void test_flush_does_not_wait_for_many_events(void) {
    open_loop();
    reset_flushes();
    start_watch(defer_a_and_let_long_pass);
    fake_report(FD, READ);
    fake_report(FD, READ);
    CHECK_TEXT(iterate(), "release wait acquire event flush:a event flush:a");
    stop_watch();
    close_loop();
}

static void test_late_flush_may_leave_the_loop(void) {
    open_loop();
    reset_flushes();
    flush_a.result = -1;
    works[0].action = defer_a;
    works[1].action = let_long_pass;
    for (int i = 0; i < 3; i++)
        give(i);
    CHECK_EQ(hoop_loop_iterate(&loop), -1);
    CHECK_TEXT(trace_take(), "wait 0 1 flush:a");
    CHECK_TEXT(iterate(), "wait 2");
    close_loop();
}

static void test_flush_may_defer_another(void) {
    open_loop();
    reset_flushes();
    flush_a.action = defer_b;
    defer_a();
    give(0);
    fake.ticks += FAKE_POLL_TICKS;
    CHECK_TEXT(iterate(), "wait flush:a flush:b 0");
    close_loop();
}

static void test_flushes_stay_queued_when_an_item_leaves(void) {
    open_loop();
    reset_flushes();
    works[0].action = defer_a;
    works[0].result = -7;
    give(0);
    CHECK_EQ(hoop_loop_iterate(&loop), -7);
    CHECK_TEXT(trace_take(), "wait 0");
    give(1);
    CHECK_TEXT(iterate(), "1 flush:a");
    close_loop();
}

static void test_flush_that_leaves_keeps_the_rest_for_later(void) {
    open_loop();
    reset_flushes();
    flush_a.result = -7;
    defer_a();
    defer_b();
    give(0);
    CHECK_EQ(hoop_loop_iterate(&loop), -7);
    CHECK_TEXT(trace_take(), "wait flush:a");
    CHECK_TEXT(iterate(), "0 flush:b");
    close_loop();
}

/* ---- other threads ---- */

static void test_pushed_items_run_in_the_next_iteration(void) {
    open_loop();
    push(0);
    push(1);
    CHECK_TEXT(iterate(), "wait 0 1");
    CHECK_EQ(fake.timeout_ns, 0);
    close_loop();
}

static void test_given_after_pushed_runs_after_it(void) {
    open_loop();
    give(0);
    push(1);
    push(2);
    give(3);
    push(4);
    CHECK_TEXT(iterate(), "wait 0 1 2 3 4");
    close_loop();
}

static void push_0_while_asleep(void) {
    push(0);
    push(1);
    fake_report(loop.waker.fd, READ);
}

static uint64_t eventfd_writes(void) {
    uint64_t count = 0;
    return read(loop.waker.fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void test_push_wakes_a_loop_that_sleeps_once(void) {
    open_loop();
    fake.during_wait = push_0_while_asleep;
    CHECK_TEXT(iterate(), "release wait acquire 0 1");
    CHECK_EQ(eventfd_writes(), 1);
    close_loop();
}

static void test_push_writes_nothing_while_the_loop_is_awake(void) {
    open_loop();
    push(0);
    iterate();
    CHECK_EQ(eventfd_writes(), 0);
    close_loop();
}

static void test_no_block_without_sleeping_first(void) {
    open_loop();
    loop.is_stopping = true;
    fake.during_wait = push_0_while_asleep; /* not asleep: the wait doesn't block */
    CHECK_TEXT(iterate(), "wait 0 1");
    CHECK_EQ(eventfd_writes(), 0);
    close_loop();
}

static void push_in_the_last_moment(struct hoop_loop *of) {
    (void)of;
    push(0);
    fake_report(FD, READ);
}

static void no_hook(struct hoop_loop *of) {
    (void)of;
}

static void test_push_just_before_sleeping_is_seen_and_so_are_events(void) {
    open_loop();
    start_watch(NULL);
    loop.hooks = (struct hoop_loop_hooks){push_in_the_last_moment, no_hook, NULL};
    CHECK_TEXT(iterate(), "wait event 0");
    CHECK_EQ(fake.timeout_ns, 0);
    stop_watch();
    close_loop();
}

/* ---- counters ---- */

static void test_stats(void) {
    open_loop();
    start_watch(NULL);
    arm(0, fake.now_ns + 250);
    iterate(); /* waits, runs the timer */
    give(1);
    give(2);
    iterate(); /* doesn't poll */
    fake.ticks += FAKE_POLL_TICKS;
    fake_report(FD, READ);
    give(3);
    iterate(); /* polls without blocking */
    CHECK_EQ(loop.stats.iterations, 3);
    CHECK_EQ(loop.stats.callbacks, 4);
    CHECK_EQ(loop.stats.events, 1);
    CHECK_EQ(loop.stats.polls, 2);
    CHECK_EQ(loop.stats.idle_ns, 250);
    stop_watch();
    close_loop();
}

/* ---- opening and closing ---- */

static void test_open_watches_the_waker_by_edge(void) {
    fake_reset();
    REQUIRE(open_with(&hooks) == 0);
    CHECK(fake.registrations[loop.waker.fd].is_watched);
    CHECK_EQ(fake.registrations[loop.waker.fd].events, HOOP_POLL_READ | HOOP_POLL_EDGE);
    close_loop();
}

static void test_open_without_memory_or_poller_leaves_nothing_open(void) {
    int next_fd = dup(STDOUT_FILENO);
    close(next_fd);
    for (size_t nth = 1; nth <= 2; nth++) {
        fake_reset();
        alloc_fail_nth(nth);
        CHECK_EQ(open_with(&hooks), -ENOMEM);
        alloc_succeed();
        CHECK(fake.is_closed);
    }
    fake_reset();
    fake.next_error = -ENOSPC;
    CHECK_EQ(open_with(&hooks), -ENOSPC);
    CHECK(fake.is_closed);
    int fd = dup(STDOUT_FILENO);
    CHECK_EQ(fd, next_fd);
    close(fd);
}

static void test_close_drops_everything_once(void) {
    open_loop();
    push(0);
    push(1);
    arm(2, INT64_MAX);
    arm(3, fake.now_ns);
    give(4); /* takes 0 and 1 out of the inbox */
    push(5);
    hoop_watches_stop(&loop.watches, &loop.waker_watch); /* its number would be in the trace */
    trace_take();
    hoop_loop_close(&loop);
    CHECK_TEXT(trace_take(), "drop:5 drop:3 drop:2 drop:0 drop:1 drop:4");
    for (int i = 0; i <= 5; i++) {
        CHECK_EQ(works[i].runs, 0);
        CHECK_EQ(works[i].drops, 1);
    }
}

static void give_6_and_arm_7(void) {
    give(6);
    arm(7, fake.now_ns);
}

static void give_8(void) {
    give(8);
}

static void test_close_drops_what_is_given_while_dropping(void) {
    open_loop();
    works[0].action = give_6_and_arm_7;
    works[7].action = give_8;
    give(0);
    hoop_loop_close(&loop);
    for (int i = 6; i <= 8; i++)
        CHECK_EQ(works[i].drops, 1);
}

static void test_push_after_close_is_refused(void) {
    open_loop();
    hoop_loop_close(&loop);
    CHECK_EQ(hoop_loop_push_anythread(&loop, &works[0].timer.item), -ESHUTDOWN);
    CHECK_EQ(works[0].drops, 0);
}

/* A child that forked while the loop's thread slept inherits a sleeping waker. */
static void test_close_of_a_loop_that_sleeps_in_the_parent(void) {
    open_loop();
    hoop_waker_sleep(&loop.waker);
    fork_count++;
    hoop_loop_close(&loop);
    hoop_waker_wake_anythread(&loop.waker); /* writes nowhere */
    CHECK_EQ(loop.waker.fd, -1);
}

/* ---- out of memory ---- */

/* As many items as the queue holds without growing: 0 to FILLED - 1. */
enum { FILLED = 64 };

static void fill_the_queue(void) {
    REQUIRE(loop.ready.mask + 1 == FILLED);
    for (int i = 0; i < FILLED; i++)
        give(i);
}

static void test_give_without_memory_changes_nothing(void) {
    open_loop();
    fill_the_queue();
    alloc_fail_all();
    CHECK_EQ(hoop_loop_give(&loop, &works[FILLED].timer.item), -ENOMEM);
    alloc_succeed();
    iterate();
    CHECK_EQ(loop.stats.callbacks, FILLED);
    CHECK_EQ(works[FILLED].runs, 0);
    close_loop();
}

static void test_timer_stays_armed_without_memory(void) {
    open_loop();
    fill_the_queue();
    arm(FILLED, fake.now_ns - 30);
    arm(FILLED + 1, fake.now_ns - 20);
    arm(FILLED + 2, fake.now_ns - 10);
    alloc_fail_all();
    iterate();
    alloc_succeed();
    CHECK_EQ(loop.stats.callbacks, FILLED);
    CHECK_EQ(loop.timers.count, 3);
    CHECK_TEXT(iterate(), "wait 64 65 66");
    close_loop();
}

static void push_66_and_67(void) {
    push(66);
    push(67);
}

static void test_inbox_keeps_items_and_order_without_memory(void) {
    open_loop();
    fill_the_queue();
    push(64);
    push(65);
    alloc_fail_all();
    alloc_at_failure(push_66_and_67); /* another thread, while 64 and 65 are on their way */
    iterate();
    alloc_succeed();
    CHECK_EQ(loop.stats.callbacks, FILLED);
    CHECK_TEXT(iterate(), "64 65 66 67");
    close_loop();
}

static void test_iterates_without_allocating_once_warm(void) {
    open_loop();
    start_watch(NULL);
    size_t allocated = 0;
    for (int round = 0; round < 100; round++) {
        if (round == 1)
            allocated = alloc_count();
        fake_report(FD, READ);
        arm(0, fake.now_ns);
        give(1);
        push(2);
        CHECK_TEXT(iterate(), "wait event 1 2 0");
    }
    CHECK_EQ(alloc_count(), allocated);
    stop_watch();
    close_loop();
}

/* ---- the real thing: epoll, the machine's clock, threads ---- */

enum { THREADS = 3, PER_THREAD = 3000 };

struct letter {
    struct hoop_item item;
    size_t thread;
    size_t number;
};

struct letter_thread {
    struct letter letters[PER_THREAD];
    size_t arrived; /* by the loop's thread */
    pthread_t thread;
};

static struct letter_thread senders[THREADS];
static size_t arrived;

static int letter_arrives(struct hoop_item *item) {
    struct letter *letter = HOOP_CONTAINER_OF(item, struct letter, item);
    CHECK_EQ(letter->number, senders[letter->thread].arrived);
    senders[letter->thread].arrived++;
    arrived++;
    return 0;
}

static const struct hoop_item_type letter_type = {letter_arrives, NULL};

static void *send_letters(void *argument) {
    struct letter_thread *self = argument;
    for (size_t i = 0; i < PER_THREAD; i++) {
        self->letters[i] = (struct letter){
            .item.type = &letter_type, .thread = (size_t)(self - senders), .number = i};
        CHECK_EQ(hoop_loop_push_anythread(&loop, &self->letters[i].item), 0);
        if (i % 8 == 0)
            sched_yield();
    }
    return NULL;
}

static int out_of_time(struct hoop_item *item) {
    (void)item;
    return -ETIME;
}

static const struct hoop_item_type guard_type = {out_of_time, NULL};

static void test_real_loop_takes_every_item_of_every_thread(void) {
    const struct hoop_loop_hooks no_hooks = {no_hook, no_hook, NULL};
    struct hoop_poller poller;
    struct hoop_clock clock;
    struct hoop_timer guard;
    hoop_clock_init(&clock);
    REQUIRE(hoop_poller_open_epoll(&poller) == 0);
    REQUIRE(hoop_loop_open(&loop, &poller, &clock, &no_hooks) == 0);
    hoop_timer_init(&guard, &guard_type);
    REQUIRE(hoop_timers_arm(&loop.timers, &guard, hoop_loop_now_ns(&loop) + 20000000000) == 0);
    arrived = 0;
    for (size_t i = 0; i < THREADS; i++) {
        senders[i].arrived = 0;
        REQUIRE(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]) == 0);
    }
    while (arrived < (size_t)THREADS * PER_THREAD)
        REQUIRE(hoop_loop_iterate(&loop) == 0); /* a lost wake-up ends with -ETIME */
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(senders[i].thread, NULL) == 0);
    CHECK_EQ(loop.stats.callbacks, THREADS * PER_THREAD);
    hoop_timers_cancel(&loop.timers, &guard);
    hoop_loop_close(&loop);
}

int main(void) {
    RUN(test_items_run_in_the_order_they_were_given);
    RUN(test_what_is_given_while_items_run_waits_a_round);
    RUN(test_negative_result_leaves_and_the_rest_stays_queued);
    RUN(test_nested_iteration_runs_the_rest_and_nothing_twice);
    RUN(test_many_items_run_in_one_round);
    RUN(test_waits_for_ever_without_timers);
    RUN(test_waits_for_the_next_timer);
    RUN(test_does_not_wait_for_a_timer_that_is_due);
    RUN(test_waits_for_the_farthest_timer_without_overflow);
    RUN(test_does_not_wait_with_items_ready);
    RUN(test_does_not_wait_while_stopping);
    RUN(test_timer_is_never_early);
    RUN(test_timers_run_by_deadline_then_by_turn);
    RUN(test_timer_runs_behind_items_given_before_it_was_due);
    RUN(test_timer_armed_by_an_item_waits_a_round);
    RUN(test_cancelled_timer_does_not_run);
    RUN(test_busy_loop_still_sees_its_timers);
    RUN(test_busy_loop_polls_by_ticks);
    RUN(test_ticks_that_go_back_make_it_poll);
    RUN(test_polls_again_after_it_found_events);
    RUN(test_poll_every_round);
    RUN(test_polls_whenever_nothing_is_ready);
    RUN(test_order_of_the_phases);
    RUN(test_watch_that_leaves_keeps_the_rest_for_later);
    RUN(test_second_event_of_a_stopped_watch_is_dropped);
    RUN(test_interrupted_wait_goes_on_with_the_iteration);
    RUN(test_error_of_the_poller_is_not_hidden);
    RUN(test_a_crowd_is_four_events_of_one_poll);
    RUN(test_flush_runs_once_at_the_end_of_the_phase);
    RUN(test_flush_deferred_between_iterations_runs_in_the_next);
    RUN(test_flush_does_not_wait_for_a_long_phase);
    RUN(test_flush_does_not_wait_for_many_events);
    RUN(test_late_flush_may_leave_the_loop);
    RUN(test_flush_may_defer_another);
    RUN(test_flushes_stay_queued_when_an_item_leaves);
    RUN(test_flush_that_leaves_keeps_the_rest_for_later);
    RUN(test_pushed_items_run_in_the_next_iteration);
    RUN(test_given_after_pushed_runs_after_it);
    RUN(test_push_wakes_a_loop_that_sleeps_once);
    RUN(test_push_writes_nothing_while_the_loop_is_awake);
    RUN(test_no_block_without_sleeping_first);
    RUN(test_push_just_before_sleeping_is_seen_and_so_are_events);
    RUN(test_stats);
    RUN(test_open_watches_the_waker_by_edge);
    RUN(test_open_without_memory_or_poller_leaves_nothing_open);
    RUN(test_close_drops_everything_once);
    RUN(test_close_drops_what_is_given_while_dropping);
    RUN(test_push_after_close_is_refused);
    RUN(test_close_of_a_loop_that_sleeps_in_the_parent);
    RUN(test_give_without_memory_changes_nothing);
    RUN(test_timer_stays_armed_without_memory);
    RUN(test_inbox_keeps_items_and_order_without_memory);
    RUN(test_iterates_without_allocating_once_warm);
    RUN(test_real_loop_takes_every_item_of_every_thread);
    return check_report();
}
