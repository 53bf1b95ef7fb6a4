/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "alloc.h"
#include "check.h"
#include "core/timers.h"

enum { TIMERS = 2000 };

static const struct hoop_item_type no_type;
static struct hoop_timer timers[TIMERS];

static void start(struct hoop_timers *heap) {
    hoop_timers_init(heap);
    for (size_t i = 0; i < TIMERS; i++)
        hoop_timer_init(&timers[i], &no_type);
}

static void arm(struct hoop_timers *heap, size_t index, int64_t deadline_ns) {
    CHECK_EQ(hoop_timers_arm(heap, &timers[index], deadline_ns), 0);
    CHECK(hoop_timer_is_armed(&timers[index]));
}

static void take(struct hoop_timers *heap, size_t index, int64_t now_ns) {
    CHECK(hoop_timers_take_due(heap, now_ns) == &timers[index]);
    CHECK(!hoop_timer_is_armed(&timers[index]));
}

static void test_empty_heap(void) {
    struct hoop_timers heap;
    start(&heap);
    int64_t deadline_ns = 7;
    CHECK(!hoop_timers_next(&heap, &deadline_ns));
    CHECK_EQ(deadline_ns, 7);
    CHECK(hoop_timers_take_due(&heap, INT64_MAX) == NULL);
    CHECK(hoop_timers_check(&heap));
    CHECK(!hoop_timer_is_armed(&timers[0]));
    hoop_timers_fini(&heap);
}

static void test_due_at_the_deadline_and_not_before(void) {
    struct hoop_timers heap;
    start(&heap);
    arm(&heap, 0, 100);
    int64_t deadline_ns = 0;
    CHECK(hoop_timers_next(&heap, &deadline_ns));
    CHECK_EQ(deadline_ns, 100);
    CHECK(hoop_timers_take_due(&heap, 99) == NULL);
    CHECK(hoop_timer_is_armed(&timers[0]));
    take(&heap, 0, 100);
    hoop_timers_fini(&heap);
}

static void test_any_deadline_is_allowed(void) {
    struct hoop_timers heap;
    start(&heap);
    arm(&heap, 0, INT64_MAX);
    arm(&heap, 1, 0);
    arm(&heap, 2, INT64_MIN);
    arm(&heap, 3, -1);
    take(&heap, 2, INT64_MIN);
    take(&heap, 3, 0);
    take(&heap, 1, 0);
    CHECK(hoop_timers_take_due(&heap, INT64_MAX - 1) == NULL);
    take(&heap, 0, INT64_MAX);
    hoop_timers_fini(&heap);
}

static void test_equal_deadlines_in_the_order_they_were_armed(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t i = 0; i < TIMERS; i++)
        arm(&heap, i, 50);
    /* One that is armed again goes to the back. */
    hoop_timers_cancel(&heap, &timers[3]);
    arm(&heap, 3, 50);
    for (size_t i = 0; i < TIMERS; i++) {
        if (i != 3)
            take(&heap, i, 50);
    }
    take(&heap, 3, 50);
    hoop_timers_fini(&heap);
}

static void test_cancel_at_every_place(void) {
    enum { COUNT = 40 };
    for (size_t victim = 0; victim < COUNT; victim++) {
        struct hoop_timers heap;
        start(&heap);
        uint64_t random = victim + 1;
        for (size_t i = 0; i < COUNT; i++)
            arm(&heap, i, (int64_t)(check_random(&random) % 20));
        struct hoop_timer *cancelled = heap.entries[victim].timer;
        hoop_timers_cancel(&heap, cancelled);
        CHECK(!hoop_timer_is_armed(cancelled));
        CHECK(hoop_timers_check(&heap));
        CHECK_EQ(heap.count, COUNT - 1);
        struct hoop_timer *timer;
        while ((timer = hoop_timers_take_due(&heap, INT64_MAX)) != NULL)
            CHECK(timer != cancelled);
        hoop_timers_fini(&heap);
    }
}

/* Timers that are armed, each with its deadline and its turn among equals. */
struct model {
    int64_t deadlines_ns[TIMERS];
    uint64_t turns[TIMERS];
    size_t armed[TIMERS];
    size_t count;
    uint64_t next_turn;
};

static size_t model_earliest(const struct model *model) {
    size_t best = 0;
    for (size_t i = 1; i < model->count; i++) {
        size_t a = model->armed[i], b = model->armed[best];
        if (model->deadlines_ns[a] < model->deadlines_ns[b] ||
            (model->deadlines_ns[a] == model->deadlines_ns[b] && model->turns[a] < model->turns[b]))
            best = i;
    }
    return best;
}

static size_t model_remove(struct model *model, size_t place) {
    size_t index = model->armed[place];
    model->armed[place] = model->armed[--model->count];
    return index;
}

static void model_step(struct model *model, struct hoop_timers *heap, uint64_t *random,
                       size_t live) {
    uint64_t dice = check_random(random) % 8;
    size_t index = check_random(random) % live;
    if (dice < 4 && !hoop_timer_is_armed(&timers[index])) {
        int64_t deadline_ns = (int64_t)(check_random(random) % 64);
        arm(heap, index, deadline_ns);
        model->deadlines_ns[index] = deadline_ns;
        model->turns[index] = model->next_turn++;
        model->armed[model->count++] = index;
    } else if (dice < 6 && model->count > 0) {
        index = model_remove(model, check_random(random) % model->count);
        hoop_timers_cancel(heap, &timers[index]);
        CHECK(!hoop_timer_is_armed(&timers[index]));
    } else {
        int64_t now_ns = (int64_t)(check_random(random) % 64);
        size_t place = model->count > 0 ? model_earliest(model) : 0;
        if (model->count > 0 && model->deadlines_ns[model->armed[place]] <= now_ns)
            take(heap, model_remove(model, place), now_ns);
        else
            CHECK(hoop_timers_take_due(heap, now_ns) == NULL);
    }
}

static void test_agrees_with_a_naive_model(void) {
    static struct model model;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct hoop_timers heap;
        start(&heap);
        model = (struct model){0};
        uint64_t random = seed;
        size_t live = (size_t)seed * 30; /* timers in play: small heaps and larger ones */
        for (int step = 0; step < 4000; step++) {
            model_step(&model, &heap, &random, live);
            CHECK(hoop_timers_check(&heap));
            CHECK_EQ(heap.count, model.count);
        }
        while (model.count > 0)
            take(&heap, model_remove(&model, model_earliest(&model)), INT64_MAX);
        CHECK_EQ(heap.count, 0);
        hoop_timers_fini(&heap);
    }
}

static void test_array_shrinks_with_the_heap(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t i = 0; i < TIMERS; i++)
        arm(&heap, i, (int64_t)i);
    CHECK(heap.capacity >= TIMERS);
    for (size_t i = 0; i < TIMERS; i++) {
        if (i % 2)
            hoop_timers_cancel(&heap, &timers[TIMERS - (i + 1) / 2]);
        else
            take(&heap, i / 2, INT64_MAX);
        CHECK(heap.capacity <= 16 || heap.capacity <= 4 * heap.count + 4);
        CHECK(heap.count <= heap.capacity);
    }
    CHECK_EQ(heap.count, 0);
    CHECK_EQ(heap.capacity, 16);
    hoop_timers_fini(&heap);
}

static void test_allocates_nothing_once_warm(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t i = 0; i < 100; i++)
        arm(&heap, i, (int64_t)i);
    size_t allocated = alloc_count();
    for (int round = 0; round < 1000; round++) {
        arm(&heap, 100, round % 100);
        hoop_timers_cancel(&heap, &timers[100]);
        arm(&heap, 101, -1);
        take(&heap, 101, 0);
    }
    CHECK_EQ(alloc_count(), allocated);
    hoop_timers_fini(&heap);
}

static void test_size_that_swings_does_not_allocate(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t size = 4; size < 200; size++) {
        for (size_t i = 0; i < size; i++)
            arm(&heap, i, (int64_t)i);
        size_t allocated = alloc_count();
        for (int swing = 0; swing < 10; swing++) {
            for (size_t i = size - 4; i < size; i++)
                hoop_timers_cancel(&heap, &timers[i]);
            for (size_t i = size - 4; i < size; i++)
                arm(&heap, i, (int64_t)i);
        }
        CHECK_EQ(alloc_count(), allocated);
        for (size_t i = 0; i < size; i++)
            hoop_timers_cancel(&heap, &timers[i]);
    }
    hoop_timers_fini(&heap);
}

static void test_without_memory_nothing_changes(void) {
    struct hoop_timers heap;
    start(&heap);
    alloc_fail_all();
    CHECK_EQ(hoop_timers_arm(&heap, &timers[0], 1), -ENOMEM);
    CHECK(!hoop_timer_is_armed(&timers[0]));
    CHECK_EQ(heap.count, 0);
    alloc_succeed();

    size_t full = 0;
    do
        arm(&heap, full, (int64_t)full);
    while (++full < heap.capacity);
    alloc_fail_all();
    CHECK_EQ(hoop_timers_arm(&heap, &timers[full], -1), -ENOMEM);
    CHECK(!hoop_timer_is_armed(&timers[full]));
    CHECK(hoop_timers_check(&heap));
    alloc_succeed();
    arm(&heap, full, -1);
    take(&heap, full, -1);
    for (size_t i = 0; i < full; i++)
        take(&heap, i, INT64_MAX);
    hoop_timers_fini(&heap);
}

static void test_failed_shrink_keeps_every_timer(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t i = 0; i < TIMERS; i++)
        arm(&heap, i, (int64_t)i);
    alloc_fail_all();
    for (size_t i = 0; i < TIMERS; i++) {
        take(&heap, i, INT64_MAX);
        CHECK(heap.capacity >= TIMERS);
    }
    alloc_succeed();
    CHECK(hoop_timers_check(&heap));
    hoop_timers_fini(&heap);
}

static void test_arm_refuses_what_cannot_be_addressed(void) {
    size_t huge = SIZE_MAX / sizeof(struct hoop_timer_entry) / 2 + 1;
    struct hoop_timers heap = {.count = huge, .capacity = huge};
    struct hoop_timer timer;
    hoop_timer_init(&timer, &no_type);
    size_t allocated = alloc_count();
    CHECK_EQ(hoop_timers_arm(&heap, &timer, 0), -ENOMEM);
    CHECK_EQ(alloc_count(), allocated);
}

static void test_check_sees_a_broken_heap(void) {
    struct hoop_timers heap;
    start(&heap);
    for (size_t i = 0; i < 10; i++)
        arm(&heap, i, (int64_t)i);
    CHECK(hoop_timers_check(&heap));

    heap.entries[9].deadline_ns = -1; /* due before its parent */
    CHECK(!hoop_timers_check(&heap));
    heap.entries[9].deadline_ns = 9;

    timers[9].index = 8; /* not where the timer thinks it is */
    CHECK(!hoop_timers_check(&heap));
    timers[9].index = 9;

    CHECK(hoop_timers_check(&heap));
    hoop_timers_fini(&heap);
}

int main(void) {
    RUN(test_empty_heap);
    RUN(test_due_at_the_deadline_and_not_before);
    RUN(test_any_deadline_is_allowed);
    RUN(test_equal_deadlines_in_the_order_they_were_armed);
    RUN(test_cancel_at_every_place);
    RUN(test_agrees_with_a_naive_model);
    RUN(test_array_shrinks_with_the_heap);
    RUN(test_allocates_nothing_once_warm);
    RUN(test_size_that_swings_does_not_allocate);
    RUN(test_without_memory_nothing_changes);
    RUN(test_failed_shrink_keeps_every_timer);
    RUN(test_arm_refuses_what_cannot_be_addressed);
    RUN(test_check_sees_a_broken_heap);
    return check_report();
}
