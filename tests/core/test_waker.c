/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "core/inbox.h"
#include "core/poller.h"
#include "core/waker.h"

enum { THREADS = 3, PER_THREAD = 5000 };

/* A loop's half: the waker's eventfd in a real poller, as the loop watches it. */
struct sleeper {
    struct hoop_poller poller;
    struct hoop_waker waker;
    struct hoop_inbox inbox;
};

static void open_sleeper(struct sleeper *sleeper) {
    REQUIRE(hoop_poller_open_epoll(&sleeper->poller) == 0);
    REQUIRE(hoop_waker_open(&sleeper->waker) == 0);
    hoop_inbox_init(&sleeper->inbox);
    REQUIRE(sleeper->poller.type->add(&sleeper->poller, sleeper->waker.fd,
                                      HOOP_POLL_READ | HOOP_POLL_EDGE, 1) == 0);
}

static void close_sleeper(struct sleeper *sleeper) {
    hoop_waker_close(&sleeper->waker);
    sleeper->poller.type->close(&sleeper->poller);
}

static int wait_up_to(struct sleeper *sleeper, int64_t timeout_ns) {
    struct hoop_poll_event events[4];
    return sleeper->poller.type->wait(&sleeper->poller, events, 4, timeout_ns);
}

/* How often the eventfd was written; forgets them. */
static uint64_t writes(struct sleeper *sleeper) {
    uint64_t count = 0;
    return read(sleeper->waker.fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void test_wake_of_an_awake_loop_writes_nothing(void) {
    struct sleeper sleeper;
    open_sleeper(&sleeper);
    hoop_waker_wake_anythread(&sleeper.waker);
    CHECK_EQ(wait_up_to(&sleeper, 0), 0);
    CHECK_EQ(writes(&sleeper), 0);
    close_sleeper(&sleeper);
}

static void test_first_wake_of_a_sleep_writes_once(void) {
    struct sleeper sleeper;
    open_sleeper(&sleeper);
    hoop_waker_sleep(&sleeper.waker);
    hoop_waker_wake_anythread(&sleeper.waker);
    hoop_waker_wake_anythread(&sleeper.waker);
    CHECK_EQ(wait_up_to(&sleeper, 0), 1);
    hoop_waker_rise(&sleeper.waker);
    CHECK_EQ(writes(&sleeper), 1);
    close_sleeper(&sleeper);
}

static void test_every_sleep_can_be_woken_though_nobody_reads(void) {
    struct sleeper sleeper;
    open_sleeper(&sleeper);
    for (int i = 0; i < 100; i++) {
        hoop_waker_sleep(&sleeper.waker);
        CHECK_EQ(wait_up_to(&sleeper, 0), 0);
        hoop_waker_wake_anythread(&sleeper.waker);
        CHECK_EQ(wait_up_to(&sleeper, 0), 1);
        hoop_waker_rise(&sleeper.waker);
    }
    CHECK_EQ(writes(&sleeper), 100);
    close_sleeper(&sleeper);
}

static void test_wake_after_the_loop_rose_by_itself_writes_nothing(void) {
    struct sleeper sleeper;
    open_sleeper(&sleeper);
    hoop_waker_sleep(&sleeper.waker);
    hoop_waker_rise(&sleeper.waker);
    hoop_waker_wake_anythread(&sleeper.waker);
    CHECK_EQ(wait_up_to(&sleeper, 0), 0);
    close_sleeper(&sleeper);
}

/* The waker's write goes through here: `write_hook` runs between the write and
 * the step that ends it (waker.h, 3). */
static void (*_Atomic write_hook)(void);

int __real_hoop_sys_eventfd_add(int fd, uint64_t value);
int __wrap_hoop_sys_eventfd_add(int fd, uint64_t value);

int __wrap_hoop_sys_eventfd_add(int fd, uint64_t value) {
    int rc = __real_hoop_sys_eventfd_add(fd, value);
    void (*hook)(void) = atomic_load(&write_hook);
    if (hook != NULL)
        hook();
    return rc;
}

static atomic_bool is_rising;
static atomic_bool write_is_over;

static void linger_until_the_loop_rises(void) {
    while (!atomic_load(&is_rising))
        sched_yield();
    for (int i = 0; i < 1000; i++) /* time enough for a rise that doesn't wait to return */
        sched_yield();
    atomic_store(&write_is_over, true);
}

static void *wake_once(void *argument) {
    struct sleeper *sleeper = argument;
    hoop_waker_wake_anythread(&sleeper->waker);
    return NULL;
}

static void test_rise_waits_for_a_waker_that_still_writes(void) {
    struct sleeper sleeper;
    open_sleeper(&sleeper);
    atomic_store(&is_rising, false);
    atomic_store(&write_is_over, false);
    atomic_store(&write_hook, linger_until_the_loop_rises);
    pthread_t thread;
    hoop_waker_sleep(&sleeper.waker);
    REQUIRE(pthread_create(&thread, NULL, wake_once, &sleeper) == 0);
    CHECK_EQ(wait_up_to(&sleeper, INT64_C(10000000000)), 1);
    atomic_store(&is_rising, true);
    hoop_waker_rise(&sleeper.waker);
    CHECK(atomic_load(&write_is_over));
    atomic_store(&write_hook, NULL);
    REQUIRE(pthread_join(thread, NULL) == 0);
    close_sleeper(&sleeper);
}

/* The storm: a lost wake-up leaves the loop asleep until its wait gives up,
 * with items in the inbox and nobody who would push another. */
struct storm {
    struct sleeper sleeper;
    struct hoop_item items[THREADS][PER_THREAD];
    atomic_size_t handled[THREADS]; /* items of each thread */
};

struct storm_thread {
    struct storm *storm;
    size_t number;
};

/* Pushes one item and waits until it was handled, so that the loop sleeps all the time. */
static void *storm_push(void *argument) {
    struct storm_thread *self = argument;
    struct storm *storm = self->storm;
    for (size_t i = 0; i < PER_THREAD; i++) {
        CHECK_EQ(hoop_inbox_push_anythread(&storm->sleeper.inbox, &storm->items[self->number][i]),
                 0);
        hoop_waker_wake_anythread(&storm->sleeper.waker);
        while (atomic_load(&storm->handled[self->number]) <= i)
            sched_yield();
    }
    return NULL;
}

static size_t storm_handle(struct storm *storm, const struct hoop_item *list) {
    size_t count = 0;
    for (const struct hoop_item *item = list; item != NULL; item = item->next) {
        size_t thread = (size_t)(item - &storm->items[0][0]) / PER_THREAD;
        atomic_fetch_add(&storm->handled[thread], 1);
        count++;
    }
    return count;
}

static void test_no_wake_up_is_lost(void) {
    static struct storm storm;
    static struct storm_thread starts[THREADS];
    pthread_t threads[THREADS];
    memset(&storm, 0, sizeof(storm));
    open_sleeper(&storm.sleeper);
    for (size_t i = 0; i < THREADS; i++) {
        starts[i] = (struct storm_thread){&storm, i};
        REQUIRE(pthread_create(&threads[i], NULL, storm_push, &starts[i]) == 0);
    }
    size_t total = 0;
    while (total < (size_t)THREADS * PER_THREAD) {
        int found = 1;
        hoop_waker_sleep(&storm.sleeper.waker);
        if (hoop_inbox_peek(&storm.sleeper.inbox) == NULL)
            found = wait_up_to(&storm.sleeper, INT64_C(10000000000));
        hoop_waker_rise(&storm.sleeper.waker);
        REQUIRE(found != 0); /* 0: slept for ten seconds though somebody pushed */
        total += storm_handle(&storm, hoop_inbox_take_all(&storm.sleeper.inbox));
    }
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    CHECK(hoop_inbox_is_empty(&storm.sleeper.inbox));
    close_sleeper(&storm.sleeper);
}

int main(void) {
    RUN(test_wake_of_an_awake_loop_writes_nothing);
    RUN(test_first_wake_of_a_sleep_writes_once);
    RUN(test_every_sleep_can_be_woken_though_nobody_reads);
    RUN(test_wake_after_the_loop_rose_by_itself_writes_nothing);
    RUN(test_rise_waits_for_a_waker_that_still_writes);
    RUN(test_no_wake_up_is_lost);
    return check_report();
}
