/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_int failures; /* of the running test */
static int tests;
static int failed_tests;

bool check_that(bool holds, const char *what, const char *file, int line) {
    if (!holds) {
        atomic_fetch_add(&failures, 1);
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
    }
    return holds;
}

bool check_equal(intmax_t found, intmax_t expected, const char *what, const char *file, int line) {
    if (found != expected) {
        atomic_fetch_add(&failures, 1);
        fprintf(stderr, "%s:%d: %s is %" PRIdMAX ", not %" PRIdMAX "\n", file, line, what, found,
                expected);
    }
    return found == expected;
}

bool check_text(const char *found, const char *expected, const char *what, const char *file,
                int line) {
    bool same = strcmp(found, expected) == 0;
    if (!same) {
        atomic_fetch_add(&failures, 1);
        fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, found, expected);
    }
    return same;
}

void check_required(bool holds, const char *what, const char *file, int line) {
    if (!holds) {
        printf("Bail out! %s:%d: %s\n", file, line, what);
        exit(EXIT_FAILURE);
    }
}

void check_run(void (*test)(void), const char *name) {
    atomic_store(&failures, 0);
    test();
    bool passed = atomic_load(&failures) == 0;
    tests++;
    failed_tests += !passed;
    printf("%s %d - %s\n", passed ? "ok" : "not ok", tests, name);
    fflush(stdout); /* a crash in the next one must not take this line along */
}

int check_report(void) {
    printf("1..%d\n", tests);
    return failed_tests == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

uint64_t check_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
