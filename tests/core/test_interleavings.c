/* SPDX-License-Identifier: MIT
 *
 * The inbox and the waker under every order of steps that a loop and the
 * threads that push to it can take, up to PREEMPTIONS forced switches.
 *
 * The real inbox.c and waker.c are compiled in here over atomics that stop
 * before each operation, where a scheduler decides who goes on. One actor runs
 * at a time; a depth-first search goes through all decisions. An order in which
 * a wake-up is lost ends with the loop asleep and nobody left to wake it.
 */
#define HOOP_CORE_ATOMIC_H /* in place of core/atomic.h */

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "check.h"

static void step(void);
static int let_others_go(void);

struct hoop_atomic_pointer {
    void *value;
};

struct hoop_atomic_state {
    int value;
};

static void *hoop_atomic_pointer_load(struct hoop_atomic_pointer *pointer) {
    step();
    return pointer->value;
}

static void *hoop_atomic_pointer_load_ordered(struct hoop_atomic_pointer *pointer) {
    return hoop_atomic_pointer_load(pointer);
}

static void hoop_atomic_pointer_init(struct hoop_atomic_pointer *pointer, void *value) {
    pointer->value = value;
}

static void *hoop_atomic_pointer_exchange(struct hoop_atomic_pointer *pointer, void *value) {
    step();
    void *found = pointer->value;
    pointer->value = value;
    return found;
}

static bool hoop_atomic_pointer_replace(struct hoop_atomic_pointer *pointer, void **expected,
                                        void *value) {
    step();
    if (pointer->value != *expected) {
        *expected = pointer->value;
        return false;
    }
    pointer->value = value;
    return true;
}

static void hoop_atomic_state_init(struct hoop_atomic_state *state, int value) {
    state->value = value;
}

static int hoop_atomic_state_load(struct hoop_atomic_state *state) {
    step();
    return state->value;
}

static void hoop_atomic_state_store(struct hoop_atomic_state *state, int value) {
    step();
    state->value = value;
}

static bool hoop_atomic_state_move(struct hoop_atomic_state *state, int from, int to) {
    step();
    if (state->value != from)
        return false;
    state->value = to;
    return true;
}

#define sched_yield() let_others_go()
#include "core/inbox.c"
#include "core/waker.c"

/* ---- the scheduler ---- */

enum { PUSHERS = 3, ACTORS = PUSHERS + 1, PREEMPTIONS = 2, MAX_DECISIONS = 1000 };

enum condition {
    RUNNABLE,
    YIELDED, /* runnable, but another must go first */
    ASLEEP_IN_WAIT,
    DONE
};

struct actor {
    void (*body)(struct actor *self);
    enum condition condition;
    sem_t turn;
    pthread_t thread;
    struct hoop_item item; /* what a pusher pushes */
    int pushed;            /* the push's result */
    int arrived;           /* how often the loop got the item */
};

struct decision {
    size_t options;
    size_t chosen;
};

static struct actor actors[ACTORS]; /* the loop, then the pushers */
static _Thread_local struct actor *self;
static struct decision decisions[MAX_DECISIONS];
static size_t decision_count; /* of the path being explored */
static size_t depth;          /* decisions made in this run */
static int preemptions;
static bool is_over; /* of the whole search */
static sem_t run_is_over;

static bool event_pending; /* the eventfd's edge */
static bool eventfd_is_open;

static size_t decide(size_t options) {
    REQUIRE(depth < MAX_DECISIONS);
    if (depth == decision_count)
        decisions[decision_count++] = (struct decision){options, 0};
    REQUIRE(decisions[depth].options == options);
    return decisions[depth++].chosen;
}

static bool can_go(const struct actor *actor) {
    return actor->condition == RUNNABLE || actor->condition == YIELDED ||
           (actor->condition == ASLEEP_IN_WAIT && event_pending);
}

static struct actor *next_actor(void) {
    struct actor *options[ACTORS];
    size_t count = 0;
    bool goes_on = self != NULL && self->condition == RUNNABLE;
    if (goes_on)
        options[count++] = self;
    for (size_t i = 0; i < ACTORS && !(goes_on && preemptions == PREEMPTIONS); i++) {
        if (&actors[i] != self && can_go(&actors[i]))
            options[count++] = &actors[i];
    }
    if (count == 0)
        return NULL;
    struct actor *next = options[decide(count)];
    preemptions += goes_on && next != self;
    return next;
}

static void hand_over(void) {
    struct actor *next = next_actor();
    bool comes_back = self->condition != DONE;
    if (next == NULL) {
        for (size_t i = 0; i < ACTORS; i++)
            REQUIRE(actors[i].condition == DONE); /* or a wake-up was lost */
        sem_post(&run_is_over);
    } else if (next != self) {
        sem_post(&next->turn);
    }
    if (!comes_back) /* from here on the next run may have begun */
        return;
    if (next != self)
        sem_wait(&self->turn);
    self->condition = RUNNABLE;
}

static void step(void) {
    if (self != NULL)
        hand_over();
}

static int let_others_go(void) {
    self->condition = YIELDED;
    hand_over();
    return 0;
}

static void *act(void *argument) {
    self = argument;
    for (;;) {
        sem_wait(&self->turn);
        if (is_over)
            return NULL;
        self->body(self);
        self->condition = DONE;
        hand_over();
    }
}

/* ---- the kernel's part ---- */

int hoop_sys_eventfd(void) {
    eventfd_is_open = true;
    event_pending = false;
    return 7;
}

int hoop_sys_eventfd_add(int fd, uint64_t value) {
    step();
    REQUIRE(eventfd_is_open && fd == 7 && value == 1);
    event_pending = true;
    return 0;
}

int hoop_sys_close(int fd) {
    REQUIRE(eventfd_is_open && fd == 7);
    eventfd_is_open = false;
    return 0;
}

static void wait_for_event(void) {
    self->condition = ASLEEP_IN_WAIT;
    hand_over();
    event_pending = false;
}

/* ---- the actors ---- */

static struct hoop_inbox inbox;
static struct hoop_waker waker;
static size_t close_after; /* items that the loop takes before it closes */

static size_t note_arrivals(struct hoop_item *list) {
    size_t count = 0;
    for (struct hoop_item *item = list; item != NULL; item = item->next) {
        HOOP_CONTAINER_OF(item, struct actor, item)->arrived++;
        count++;
    }
    return count;
}

static void run_loop(struct actor *actor) {
    (void)actor;
    size_t taken = 0;
    while (taken < close_after) {
        hoop_waker_sleep(&waker);
        if (hoop_inbox_peek(&inbox) == NULL)
            wait_for_event();
        hoop_waker_rise(&waker);
        taken += note_arrivals(hoop_inbox_take_all(&inbox));
    }
    note_arrivals(hoop_inbox_close(&inbox));
    hoop_waker_close(&waker);
}

static void push_once(struct actor *actor) {
    actor->pushed = hoop_inbox_push_anythread(&inbox, &actor->item);
    if (actor->pushed == 0)
        hoop_waker_wake_anythread(&waker);
}

static void run_once(void) {
    depth = 0;
    preemptions = 0;
    hoop_inbox_init(&inbox);
    REQUIRE(hoop_waker_open(&waker) == 0);
    for (size_t i = 0; i < ACTORS; i++) {
        actors[i].condition = RUNNABLE;
        actors[i].pushed = 0;
        actors[i].arrived = 0;
    }
    struct actor *first = next_actor();
    sem_post(&first->turn);
    sem_wait(&run_is_over);
    for (size_t i = 1; i < ACTORS; i++)
        CHECK_EQ(actors[i].arrived, actors[i].pushed == 0);
}

/* The next path: the last decision that has an untried option takes it. */
static bool has_another_path(void) {
    while (decision_count > 0) {
        struct decision *last = &decisions[decision_count - 1];
        if (++last->chosen < last->options)
            return true;
        decision_count--;
    }
    return false;
}

static void explore(size_t items) {
    close_after = items;
    decision_count = 0;
    is_over = false;
    REQUIRE(sem_init(&run_is_over, 0, 0) == 0);
    for (size_t i = 0; i < ACTORS; i++) {
        actors[i].body = i == 0 ? run_loop : push_once;
        REQUIRE(sem_init(&actors[i].turn, 0, 0) == 0);
        REQUIRE(pthread_create(&actors[i].thread, NULL, act, &actors[i]) == 0);
    }
    size_t paths = 0;
    do {
        run_once();
        paths++;
    } while (has_another_path());
    is_over = true;
    for (size_t i = 0; i < ACTORS; i++) {
        sem_post(&actors[i].turn);
        REQUIRE(pthread_join(actors[i].thread, NULL) == 0);
    }
    printf("# %zu paths\n", paths);
}

static void test_no_order_of_steps_loses_a_wake_up(void) {
    explore(PUSHERS);
}

static void test_no_order_of_steps_loses_an_item_when_the_loop_closes(void) {
    explore(1);
}

/* As one actor runs at a time, the hand-over is faster on one processor. */
static void stay_on_one_processor(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)sched_getcpu(), &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

int main(void) {
    stay_on_one_processor();
    RUN(test_no_order_of_steps_loses_a_wake_up);
    RUN(test_no_order_of_steps_loses_an_item_when_the_loop_closes);
    return check_report();
}
