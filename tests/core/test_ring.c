/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "alloc.h"
#include "check.h"
#include "core/ring.h"

enum { ITEMS = 1000 };

static struct hoop_item items[ITEMS];

static void give(struct hoop_ring *ring, size_t first, size_t end) {
    for (size_t i = first; i < end; i++)
        CHECK_EQ(hoop_ring_give(ring, &items[i]), 0);
}

static void take(struct hoop_ring *ring, size_t first, size_t end) {
    for (size_t i = first; i < end; i++)
        CHECK(hoop_ring_take(ring) == &items[i]);
}

static void test_capacity_is_a_power_of_two(void) {
    const struct {
        size_t asked, got;
    } cases[] = {{0, 2}, {1, 2}, {2, 2}, {3, 4}, {64, 64}, {65, 128}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hoop_ring ring;
        REQUIRE(hoop_ring_init(&ring, cases[i].asked) == 0);
        CHECK_EQ(ring.mask + 1, cases[i].got);
        hoop_ring_fini(&ring);
    }
}

static void test_empty_ring_has_nothing_to_take(void) {
    struct hoop_ring ring;
    REQUIRE(hoop_ring_init(&ring, 4) == 0);
    CHECK_EQ(hoop_ring_count(&ring), 0);
    CHECK(hoop_ring_take(&ring) == NULL);
    give(&ring, 0, 1);
    take(&ring, 0, 1);
    CHECK(hoop_ring_take(&ring) == NULL);
    CHECK_EQ(hoop_ring_count(&ring), 0);
    hoop_ring_fini(&ring);
}

static void test_fills_to_its_capacity_before_it_grows(void) {
    struct hoop_ring ring;
    REQUIRE(hoop_ring_init(&ring, 8) == 0);
    size_t allocated = alloc_count();
    give(&ring, 0, 8);
    CHECK_EQ(alloc_count(), allocated);
    give(&ring, 8, 9);
    CHECK_EQ(alloc_count(), allocated + 1);
    CHECK_EQ(ring.mask + 1, 16);
    take(&ring, 0, 9);
    hoop_ring_fini(&ring);
}

static void test_growing_keeps_the_order_of_a_wrapped_ring(void) {
    struct hoop_ring ring;
    REQUIRE(hoop_ring_init(&ring, 8) == 0);
    give(&ring, 0, 6);
    take(&ring, 0, 5);
    give(&ring, 6, 100); /* wraps, then grows several times */
    CHECK_EQ(hoop_ring_count(&ring), 95);
    take(&ring, 5, 100);
    hoop_ring_fini(&ring);
}

static void test_peek_looks_without_taking(void) {
    struct hoop_ring ring;
    REQUIRE(hoop_ring_init(&ring, 4) == 0);
    give(&ring, 0, 3);
    take(&ring, 0, 3);
    give(&ring, 3, 7);
    for (size_t i = 0; i < 4; i++)
        CHECK(hoop_ring_peek(&ring, i) == &items[3 + i]);
    CHECK_EQ(hoop_ring_count(&ring), 4);
    take(&ring, 3, 7);
    hoop_ring_fini(&ring);
}

static void test_allocates_nothing_once_warm(void) {
    struct hoop_ring ring;
    REQUIRE(hoop_ring_init(&ring, 2) == 0);
    give(&ring, 0, 60);
    take(&ring, 0, 60);
    size_t allocated = alloc_count();
    for (int round = 0; round < 100; round++) {
        give(&ring, 0, 64);
        take(&ring, 0, 64);
    }
    CHECK_EQ(alloc_count(), allocated);
    hoop_ring_fini(&ring);
}

/* Gives and takes at random; what comes out must be 0, 1, 2... */
static void test_random_gives_and_takes_keep_the_order(void) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t random = seed;
        struct hoop_ring ring;
        REQUIRE(hoop_ring_init(&ring, 2) == 0);
        size_t given = 0, taken = 0;
        while (given < ITEMS) {
            size_t burst = check_random(&random) % 20;
            if (check_random(&random) % 5 < 3) {
                size_t end = given + burst < ITEMS ? given + burst : ITEMS;
                give(&ring, given, end);
                given = end;
            } else {
                size_t end = taken + burst < given ? taken + burst : given;
                take(&ring, taken, end);
                taken = end;
            }
            CHECK_EQ(hoop_ring_count(&ring), given - taken);
        }
        take(&ring, taken, given);
        hoop_ring_fini(&ring);
    }
}

static void test_without_memory_nothing_changes(void) {
    struct hoop_ring ring;
    alloc_fail_nth(1);
    CHECK_EQ(hoop_ring_init(&ring, 4), -ENOMEM);

    REQUIRE(hoop_ring_init(&ring, 4) == 0);
    give(&ring, 0, 4);
    alloc_fail_all();
    CHECK_EQ(hoop_ring_give(&ring, &items[4]), -ENOMEM);
    CHECK_EQ(hoop_ring_give(&ring, &items[4]), -ENOMEM);
    alloc_succeed();
    CHECK_EQ(hoop_ring_count(&ring), 4);
    give(&ring, 4, 6);
    take(&ring, 0, 6);
    hoop_ring_fini(&ring);
}

static void test_grow_refuses_what_cannot_be_addressed(void) {
    struct hoop_ring ring = {.mask = SIZE_MAX / sizeof(*ring.slots) / 2};
    size_t allocated = alloc_count();
    CHECK_EQ(hoop_ring_grow(&ring), -ENOMEM);
    CHECK_EQ(alloc_count(), allocated);
}

int main(void) {
    RUN(test_capacity_is_a_power_of_two);
    RUN(test_empty_ring_has_nothing_to_take);
    RUN(test_fills_to_its_capacity_before_it_grows);
    RUN(test_growing_keeps_the_order_of_a_wrapped_ring);
    RUN(test_peek_looks_without_taking);
    RUN(test_allocates_nothing_once_warm);
    RUN(test_random_gives_and_takes_keep_the_order);
    RUN(test_without_memory_nothing_changes);
    RUN(test_grow_refuses_what_cannot_be_addressed);
    return check_report();
}
