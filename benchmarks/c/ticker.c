/* SPDX-License-Identifier: MIT
 *
 * ticker COUNT: writes COUNT times the current CLOCK_MONOTONIC time (int64 nanoseconds) to stdout,
 * 200 to 300 microseconds apart, so that the reader can tell how long each waited.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long count = argc == 2 ? atol(argv[1]) : 0;
    for (long i = 0; i < count; i++) {
        struct timespec pause = {0, 200000 + i * 7919 % 100000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t stamp_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        if (write(STDOUT_FILENO, &stamp_ns, sizeof stamp_ns) != sizeof stamp_ns)
            return 1;
    }
    return 0;
}
