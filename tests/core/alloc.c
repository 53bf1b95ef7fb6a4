/* SPDX-License-Identifier: MIT */
#include "alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *block, size_t size);

static atomic_size_t count;
static size_t fail_at; /* the count that fails; 0 is none */
static bool fails_all;
static void (*at_failure)(void);

static bool must_fail(void) {
    size_t number = atomic_fetch_add(&count, 1) + 1;
    if (!fails_all && number != fail_at)
        return false;
    void (*hook)(void) = at_failure;
    at_failure = NULL;
    if (hook != NULL)
        hook();
    return true;
}

void *__wrap_malloc(size_t size) {
    return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *block, size_t size) {
    return must_fail() ? NULL : __real_realloc(block, size);
}

void alloc_fail_nth(size_t nth) {
    fail_at = atomic_load(&count) + nth;
}

void alloc_fail_all(void) {
    fails_all = true;
}

void alloc_succeed(void) {
    fails_all = false;
    fail_at = 0;
    at_failure = NULL;
}

void alloc_at_failure(void (*hook)(void)) {
    at_failure = hook;
}

size_t alloc_count(void) {
    return atomic_load(&count);
}
