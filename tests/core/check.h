/* SPDX-License-Identifier: MIT
 *
 * check: the words the core's tests are written in. A test program is a list of
 * functions; each becomes one line of TAP on stdout, what failed a line on stderr.
 *
 * Threads: any may CHECK; RUN and check_report only from main's thread.
 */
#ifndef HOOP_TESTS_CHECK_H
#define HOOP_TESTS_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* Notes a failure and goes on; the value is whether it held. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(found, expected)                                                                  \
    check_equal((intmax_t)(found), (intmax_t)(expected), #found, __FILE__, __LINE__)
#define CHECK_TEXT(found, expected) check_text((found), (expected), #found, __FILE__, __LINE__)

/* For what the rest of the test cannot do without: ends the program. */
#define REQUIRE(condition) check_required((condition), #condition, __FILE__, __LINE__)

#define RUN(test) check_run((test), #test)

bool check_that(bool holds, const char *what, const char *file, int line);
bool check_equal(intmax_t found, intmax_t expected, const char *what, const char *file, int line);
bool check_text(const char *found, const char *expected, const char *what, const char *file,
                int line);
void check_required(bool holds, const char *what, const char *file, int line);

void check_run(void (*test)(void), const char *name);

/* Prints the plan; the program's exit status. */
int check_report(void);

/* A repeatable stream of numbers; `state` starts as any value but 0. */
uint64_t check_random(uint64_t *state);

#endif
