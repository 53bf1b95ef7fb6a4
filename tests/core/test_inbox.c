/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "core/inbox.h"

enum { THREADS = 4, PER_THREAD = 20000 };

static struct hoop_item items[10];

static void push(struct hoop_inbox *inbox, size_t index) {
    CHECK_EQ(hoop_inbox_push_anythread(inbox, &items[index]), 0);
}

/* The list is items[first] to items[end - 1], and properly ended. */
static void check_list(const struct hoop_item *list, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        CHECK(list == &items[i]);
        if (list == NULL)
            return;
        list = list->next;
    }
    CHECK(list == NULL);
}

static void test_new_inbox_is_empty(void) {
    struct hoop_inbox inbox;
    hoop_inbox_init(&inbox);
    CHECK(hoop_inbox_is_empty(&inbox));
    CHECK(hoop_inbox_peek(&inbox) == NULL);
    CHECK(hoop_inbox_take_all(&inbox) == NULL);
}

static void test_takes_all_in_the_order_of_pushes(void) {
    struct hoop_inbox inbox;
    hoop_inbox_init(&inbox);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 5; i++)
            push(&inbox, i);
        CHECK(!hoop_inbox_is_empty(&inbox));
        check_list(hoop_inbox_take_all(&inbox), 0, 5);
        CHECK(hoop_inbox_is_empty(&inbox));
        CHECK(hoop_inbox_take_all(&inbox) == NULL);
    }
}

static void test_peek_shows_the_newest_first(void) {
    struct hoop_inbox inbox;
    hoop_inbox_init(&inbox);
    push(&inbox, 0);
    push(&inbox, 1);
    struct hoop_item *newest = hoop_inbox_peek(&inbox);
    CHECK(newest == &items[1]);
    CHECK(newest->next == &items[0]);
    CHECK(items[0].next == NULL);
    check_list(hoop_inbox_take_all(&inbox), 0, 2);
}

static void test_close_hands_back_what_is_inside(void) {
    struct hoop_inbox inbox;
    hoop_inbox_init(&inbox);
    for (size_t i = 0; i < 3; i++)
        push(&inbox, i);
    check_list(hoop_inbox_close(&inbox), 0, 3);
    CHECK(hoop_inbox_close(&inbox) == NULL);
}

static void test_closed_inbox_refuses_for_ever(void) {
    struct hoop_inbox inbox;
    hoop_inbox_init(&inbox);
    CHECK(hoop_inbox_close(&inbox) == NULL);
    for (size_t i = 0; i < 3; i++) {
        items[i].next = &items[9];
        CHECK_EQ(hoop_inbox_push_anythread(&inbox, &items[i]), -ESHUTDOWN);
        CHECK(items[i].next == NULL);
        CHECK(hoop_inbox_peek(&inbox) == NULL);
        CHECK(hoop_inbox_take_all(&inbox) == NULL);
    }
    CHECK(hoop_inbox_close(&inbox) == NULL);
}

/* The storm: each thread pushes its items, number 0 first, until it is refused. */
struct mail {
    struct hoop_item item;
    size_t thread;
    size_t number;
};

struct storm {
    struct hoop_inbox inbox;
    struct mail mails[THREADS][PER_THREAD];
    size_t accepted[THREADS]; /* written by the thread, read when it is joined */
    size_t taken[THREADS];
    pthread_t threads[THREADS];
};

struct storm_thread {
    struct storm *storm;
    size_t number;
};

static void *storm_push(void *argument) {
    struct storm_thread *self = argument;
    struct storm *storm = self->storm;
    for (size_t i = 0; i < PER_THREAD; i++) {
        struct mail *mail = &storm->mails[self->number][i];
        mail->thread = self->number;
        mail->number = i;
        if (hoop_inbox_push_anythread(&storm->inbox, &mail->item) < 0)
            break;
        storm->accepted[self->number]++;
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

/* Counts the list's items; of each thread exactly the next one must come. */
static size_t storm_note(struct storm *storm, struct hoop_item *list) {
    size_t count = 0;
    for (struct hoop_item *item = list; item != NULL; item = item->next) {
        struct mail *mail = HOOP_CONTAINER_OF(item, struct mail, item);
        CHECK_EQ(mail->number, storm->taken[mail->thread]);
        storm->taken[mail->thread]++;
        count++;
    }
    return count;
}

static void storm_run(size_t close_after) {
    static struct storm storm;
    static struct storm_thread starts[THREADS];
    storm = (struct storm){0};
    hoop_inbox_init(&storm.inbox);
    for (size_t i = 0; i < THREADS; i++) {
        starts[i] = (struct storm_thread){&storm, i};
        REQUIRE(pthread_create(&storm.threads[i], NULL, storm_push, &starts[i]) == 0);
    }
    size_t total = 0;
    while (total < close_after) {
        size_t count = storm_note(&storm, hoop_inbox_take_all(&storm.inbox));
        total += count;
        if (count == 0)
            sched_yield();
    }
    storm_note(&storm, hoop_inbox_close(&storm.inbox));
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_join(storm.threads[i], NULL) == 0);
    CHECK(hoop_inbox_take_all(&storm.inbox) == NULL);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(storm.taken[i], storm.accepted[i]);
}

static void test_many_threads_each_item_once_and_in_order(void) {
    storm_run((size_t)THREADS * PER_THREAD);
}

static void test_closing_in_a_storm_loses_no_accepted_item(void) {
    for (size_t round = 0; round < 10; round++)
        storm_run(round * PER_THREAD / 5);
}

int main(void) {
    RUN(test_new_inbox_is_empty);
    RUN(test_takes_all_in_the_order_of_pushes);
    RUN(test_peek_shows_the_newest_first);
    RUN(test_close_hands_back_what_is_inside);
    RUN(test_closed_inbox_refuses_for_ever);
    RUN(test_many_threads_each_item_once_and_in_order);
    RUN(test_closing_in_a_storm_loses_no_accepted_item);
    return check_report();
}
