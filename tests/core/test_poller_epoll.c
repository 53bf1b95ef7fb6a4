/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/poller.h"

static struct hoop_poller poller;
static struct hoop_poll_event events[8];
static int pair[2]; /* two connected stream sockets */

static void open_all(void) {
    REQUIRE(hoop_poller_open_epoll(&poller) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    memset(events, 0, sizeof(events));
}

static void close_all(void) {
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            close(pair[i]);
    }
    poller.type->close(&poller);
}

static void close_end(int end) {
    REQUIRE(close(pair[end]) == 0);
    pair[end] = -1;
}

static void write_byte(int fd) {
    REQUIRE(write(fd, "x", 1) == 1);
}

static int add(int fd, uint32_t wanted, uint64_t token) {
    return poller.type->add(&poller, fd, wanted, token);
}

static int modify(int fd, uint32_t wanted, uint64_t token) {
    return poller.type->modify(&poller, fd, wanted, token);
}

static int look(void) {
    return poller.type->wait(&poller, events, 8, 0);
}

static void test_reports_what_is_ready_with_its_token(void) {
    open_all();
    const uint64_t token = UINT64_C(0xfedcba9876543210);
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, token), 0);
    CHECK_EQ(look(), 0);
    write_byte(pair[1]);
    CHECK_EQ(look(), 1);
    CHECK(events[0].token == token);
    CHECK_EQ(events[0].events, HOOP_POLL_READ);
    close_all();
}

static void test_reading_and_writing_together(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_READ | HOOP_POLL_WRITE, 1), 0);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].events, HOOP_POLL_WRITE);
    write_byte(pair[1]);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].events, HOOP_POLL_READ | HOOP_POLL_WRITE);
    close_all();
}

static void test_level_reports_again_and_edge_once(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, 1), 0);
    write_byte(pair[1]);
    CHECK_EQ(look(), 1);
    CHECK_EQ(look(), 1);
    CHECK_EQ(modify(pair[0], HOOP_POLL_READ | HOOP_POLL_EDGE, 1), 0);
    CHECK_EQ(look(), 1);
    CHECK_EQ(look(), 0);
    write_byte(pair[1]);
    CHECK_EQ(look(), 1);
    CHECK_EQ(look(), 0);
    close_all();
}

static void test_modify_changes_events_and_token(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_WRITE, 1), 0);
    CHECK_EQ(modify(pair[0], HOOP_POLL_READ, 2), 0);
    CHECK_EQ(look(), 0);
    write_byte(pair[1]);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].token, 2);
    CHECK_EQ(events[0].events, HOOP_POLL_READ);
    close_all();
}

static void test_removed_descriptor_is_not_reported(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_WRITE, 1), 0);
    CHECK_EQ(poller.type->remove(&poller, pair[0]), 0);
    CHECK_EQ(look(), 0);
    CHECK_EQ(add(pair[0], HOOP_POLL_WRITE, 2), 0);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].token, 2);
    close_all();
}

static void test_peer_gone_is_reported_as_broken(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, 1), 0);
    close_end(1);
    CHECK_EQ(look(), 1);
    CHECK(events[0].events & HOOP_POLL_BROKEN);
    CHECK(events[0].events & HOOP_POLL_READ);
    close_all();
}

static void test_broken_is_reported_unasked(void) {
    open_all();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    CHECK_EQ(add(ends[1], 0, 1), 0);
    CHECK_EQ(look(), 0);
    close(ends[0]);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].events, HOOP_POLL_BROKEN);
    close(ends[1]);
    close_all();
}

static void test_half_close_is_readable_not_broken(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, 1), 0);
    REQUIRE(shutdown(pair[1], SHUT_WR) == 0);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].events, HOOP_POLL_READ);
    close_all();
}

static void test_errors_change_nothing(void) {
    open_all();
    CHECK_EQ(modify(pair[0], HOOP_POLL_WRITE, 1), -ENOENT);
    CHECK_EQ(poller.type->remove(&poller, pair[0]), -ENOENT);
    CHECK_EQ(look(), 0);
    CHECK_EQ(add(pair[0], HOOP_POLL_WRITE, 1), 0);
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, 2), -EEXIST);
    CHECK_EQ(look(), 1);
    CHECK_EQ(events[0].token, 1);
    CHECK_EQ(events[0].events, HOOP_POLL_WRITE);
    CHECK_EQ(add(-1, HOOP_POLL_READ, 3), -EBADF);
    CHECK_EQ(modify(-1, HOOP_POLL_READ, 3), -EBADF);
    CHECK_EQ(poller.type->remove(&poller, -1), -EBADF);
    close_all();
}

static void test_regular_file_cannot_be_watched(void) {
    open_all();
    FILE *file = tmpfile();
    REQUIRE(file != NULL);
    CHECK_EQ(add(fileno(file), HOOP_POLL_READ, 1), -EPERM);
    fclose(file);
    close_all();
}

static void test_capacity_limits_what_is_stored(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_WRITE, 1), 0);
    CHECK_EQ(add(pair[1], HOOP_POLL_WRITE, 2), 0);
    CHECK_EQ(poller.type->wait(&poller, events, 1, 0), 1);
    uint64_t first = events[0].token;
    CHECK_EQ(events[1].token, 0);
    CHECK_EQ(poller.type->wait(&poller, events, 1, 0), 1); /* epoll takes turns */
    CHECK_EQ(events[0].token, 3 - first);
    close_all();
}

static int64_t monotonic_ns(void) {
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void test_timeout_is_never_early(void) {
    open_all();
    const int64_t timeouts_ns[] = {1, 999, 100000, 1000001, 2500000};
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        int64_t start_ns = monotonic_ns();
        CHECK_EQ(poller.type->wait(&poller, events, 8, timeouts_ns[i]), 0);
        CHECK(monotonic_ns() - start_ns >= timeouts_ns[i]);
    }
    close_all();
}

static void *write_to(void *argument) {
    write_byte(*(int *)argument);
    return NULL;
}

static void test_wait_without_end_returns_when_something_is_ready(void) {
    open_all();
    CHECK_EQ(add(pair[0], HOOP_POLL_READ, 1), 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, write_to, &pair[1]) == 0);
    CHECK_EQ(poller.type->wait(&poller, events, 8, -1), 1);
    REQUIRE(pthread_join(thread, NULL) == 0);
    CHECK_EQ(poller.type->wait(&poller, events, 8, INT64_MAX), 1);
    close_all();
}

static void on_alarm(int signal) {
    (void)signal;
}

/* Alarms come until one falls into the wait, so it cannot miss them. */
static void test_signal_interrupts_the_wait(void) {
    open_all();
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART}, saved;
    REQUIRE(sigaction(SIGALRM, &action, &saved) == 0);
    struct itimerval every_ms = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    REQUIRE(setitimer(ITIMER_REAL, &every_ms, NULL) == 0);
    CHECK_EQ(poller.type->wait(&poller, events, 8, INT64_C(10000000000)), -EINTR);
    CHECK_EQ(poller.type->wait(&poller, events, 8, -1), -EINTR);
    REQUIRE(setitimer(ITIMER_REAL, &never, NULL) == 0);
    REQUIRE(sigaction(SIGALRM, &saved, NULL) == 0);
    close_all();
}

static void test_close_lets_go_of_the_descriptor(void) {
    open_all();
    int fd = poller.fd;
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    poller.type->close(&poller);
    CHECK_EQ(poller.fd, -1);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    CHECK_EQ(look(), -EBADF);
    REQUIRE(hoop_poller_open_epoll(&poller) == 0);
    close_all();
}

int main(void) {
    RUN(test_reports_what_is_ready_with_its_token);
    RUN(test_reading_and_writing_together);
    RUN(test_level_reports_again_and_edge_once);
    RUN(test_modify_changes_events_and_token);
    RUN(test_removed_descriptor_is_not_reported);
    RUN(test_peer_gone_is_reported_as_broken);
    RUN(test_broken_is_reported_unasked);
    RUN(test_half_close_is_readable_not_broken);
    RUN(test_errors_change_nothing);
    RUN(test_regular_file_cannot_be_watched);
    RUN(test_capacity_limits_what_is_stored);
    RUN(test_timeout_is_never_early);
    RUN(test_wait_without_end_returns_when_something_is_ready);
    RUN(test_signal_interrupts_the_wait);
    RUN(test_close_lets_go_of_the_descriptor);
    return check_report();
}
