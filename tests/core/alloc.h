/* SPDX-License-Identifier: MIT
 *
 * alloc: makes the core run out of memory. The linker sends the calls of malloc
 * and realloc through here (meson.build, --wrap); libc's own are left alone.
 *
 * Threads: allocate from any; the functions below only while one thread runs.
 */
#ifndef HOOP_TESTS_ALLOC_H
#define HOOP_TESTS_ALLOC_H

#include <stddef.h>

/* The `nth` allocation from now fails (1: the next one), and those after it succeed. */
void alloc_fail_nth(size_t nth);

/* Every allocation fails until alloc_succeed. */
void alloc_fail_all(void);
void alloc_succeed(void);

/* Called at the next allocation that is made to fail, before the caller learns of it. */
void alloc_at_failure(void (*hook)(void));

/* Allocations since the program began. */
size_t alloc_count(void);

#endif
