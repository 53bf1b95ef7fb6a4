/* SPDX-License-Identifier: MIT */
#include "py/fork.h"

#include <pthread.h>

unsigned long pyhoop_fork_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_result;

static void count_fork(void) {
    pyhoop_fork_count++;
}

static void register_handler(void) {
    init_result = -pthread_atfork(NULL, NULL, count_fork);
}

int pyhoop_fork_init(void) {
    pthread_once(&once, register_handler);
    return init_result;
}
