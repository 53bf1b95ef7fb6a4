/* SPDX-License-Identifier: MIT */
#include "core/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

/* System calls that sys.c makes go through the functions below, which fail them
 * as the test asks and count them. */
static int injected_error; /* what the calls fail with */
static int injected_times; /* how many of them */
static int calls;
static int last_timeout_ms; /* of epoll_wait */

static void inject(int error, int times) {
    injected_error = error;
    injected_times = times;
    calls = 0;
}

static bool must_fail(void) {
    calls++;
    if (injected_times == 0)
        return false;
    injected_times--;
    errno = injected_error;
    return true;
}

int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int timeout_ms);
ssize_t __real_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __real_send(int fd, const void *buffer, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __real_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                        socklen_t *length);
ssize_t __wrap_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                        socklen_t *length);
ssize_t __real_sendto(int fd, const void *buffer, size_t size, int flags,
                      const struct sockaddr *address, socklen_t length);
ssize_t __wrap_sendto(int fd, const void *buffer, size_t size, int flags,
                      const struct sockaddr *address, socklen_t length);
ssize_t __real_preadv64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags);
ssize_t __real_pwritev64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
ssize_t __real_write(int fd, const void *buffer, size_t size);
ssize_t __wrap_write(int fd, const void *buffer, size_t size);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return must_fail() ? -1 : __real_accept4(fd, address, length, flags);
}

/* Never waits: what the test wants to know is the timeout. */
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int timeout_ms) {
    (void)epoll_fd;
    (void)events;
    (void)capacity;
    last_timeout_ms = timeout_ms;
    return must_fail() ? -1 : 0;
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags) {
    return must_fail() ? -1 : __real_recv(fd, buffer, size, flags);
}

ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags) {
    return must_fail() ? -1 : __real_send(fd, buffer, size, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    return must_fail() ? -1 : __real_sendmsg(fd, message, flags);
}

ssize_t __wrap_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                        socklen_t *length) {
    return must_fail() ? -1 : __real_recvfrom(fd, buffer, size, flags, address, length);
}

ssize_t __wrap_sendto(int fd, const void *buffer, size_t size, int flags,
                      const struct sockaddr *address, socklen_t length) {
    return must_fail() ? -1 : __real_sendto(fd, buffer, size, flags, address, length);
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags) {
    return must_fail() ? -1 : __real_preadv64v2(fd, vector, count, offset, flags);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *vector, int count, off_t offset, int flags) {
    return must_fail() ? -1 : __real_pwritev64v2(fd, vector, count, offset, flags);
}

static long pidfd_call(long number, int first, int second) {
    if (must_fail())
        return -1;
    return number == SYS_pidfd_open ? __real_syscall(number, first, second)
                                    : __real_syscall(number, first, second, NULL, 0);
}

long __wrap_syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    int fd = va_arg(list, int);
    if (number != SYS_epoll_pwait2) {
        int second = va_arg(list, int);
        va_end(list);
        return pidfd_call(number, fd, second);
    }
    void *events = va_arg(list, void *);
    int capacity = va_arg(list, int);
    void *timeout = va_arg(list, void *);
    va_end(list);
    return must_fail() ? -1 : __real_syscall(number, fd, events, capacity, timeout, NULL, 0L);
}

ssize_t __wrap_write(int fd, const void *buffer, size_t size) {
    return must_fail() ? -1 : __real_write(fd, buffer, size);
}

static bool has_flags(int fd, int descriptor_flags, int status_flags) {
    return (fcntl(fd, F_GETFD) & descriptor_flags) == descriptor_flags &&
           (fcntl(fd, F_GETFL) & status_flags) == status_flags;
}

/* A pair whose descriptors block: hoop's calls must not. */
static void open_pair(int pair[2]) {
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
}

static void close_pair(const int pair[2]) {
    for (int i = 0; i < 2; i++)
        CHECK_EQ(hoop_sys_close(pair[i]), 0);
}

static int open_listener(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(*address);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, (struct sockaddr *)address, length) == 0);
    REQUIRE(listen(fd, 8) == 0);
    REQUIRE(hoop_sys_socket_name(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

static void test_send_and_recv(void) {
    int pair[2];
    char buffer[8];
    open_pair(pair);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, sizeof(buffer)), -EAGAIN);
    CHECK_EQ(hoop_sys_send(pair[0], "hoop", 4), 4);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, 3), 3);
    CHECK(memcmp(buffer, "hoo", 3) == 0);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, sizeof(buffer)), 1);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, sizeof(buffer)), -EAGAIN);
    close_pair(pair);
}

static void test_send_until_the_buffer_is_full(void) {
    static char block[1 << 16];
    struct iovec vector[] = {{block, sizeof(block)}};
    int pair[2];
    open_pair(pair);
    ssize_t sent;
    do
        sent = hoop_sys_send(pair[0], block, sizeof(block));
    while (sent > 0);
    CHECK_EQ(sent, -EAGAIN);
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, 1), -EAGAIN);
    close_pair(pair);
}

static void test_send_vector_gathers(void) {
    int pair[2];
    char buffer[8] = {0};
    char text[] = "hoop";
    struct iovec vector[] = {{text, 2}, {text + 2, 0}, {text + 2, 2}};
    open_pair(pair);
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, 3), 4);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, sizeof(buffer)), 4);
    CHECK_TEXT(buffer, "hoop");
    close_pair(pair);
}

static void test_send_vector_takes_so_many_parts_and_no_more(void) {
    static struct iovec vector[IOV_MAX + 1];
    char byte = 'x';
    int pair[2];
    open_pair(pair);
    for (size_t i = 0; i <= IOV_MAX; i++)
        vector[i] = (struct iovec){&byte, 1};
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, IOV_MAX), IOV_MAX);
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, IOV_MAX + 1), -EMSGSIZE);
    close_pair(pair);
}

static void test_peer_gone_is_an_error_and_no_signal(void) {
    int pair[2];
    char buffer[1] = {'x'};
    struct iovec vector[] = {{buffer, 1}};
    open_pair(pair);
    CHECK_EQ(hoop_sys_close(pair[1]), 0);
    CHECK_EQ(hoop_sys_recv(pair[0], buffer, 1), 0);
    CHECK_EQ(hoop_sys_send(pair[0], "x", 1), -EPIPE);
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, 1), -EPIPE);
    CHECK_EQ(hoop_sys_close(pair[0]), 0);
}

/* A bound UDP socket that blocks. */
static int open_datagram(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(*address);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, (struct sockaddr *)address, length) == 0);
    REQUIRE(hoop_sys_socket_name(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

static void test_datagrams_come_with_their_senders(void) {
    struct sockaddr_in left_name, right_name, sender;
    int left = open_datagram(&left_name), right = open_datagram(&right_name);
    const struct sockaddr *to = (struct sockaddr *)&right_name;
    char buffer[8];
    const char *texts[] = {"hoop", "", "cut off"};
    const size_t received[] = {4, 0, 5};
    socklen_t length = sizeof(sender);
    CHECK_EQ(hoop_sys_recv_from(right, buffer, sizeof(buffer), (struct sockaddr *)&sender, &length),
             -EAGAIN);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(hoop_sys_send_to(left, texts[i], strlen(texts[i]), to, sizeof(right_name)),
                 strlen(texts[i]));
    for (size_t i = 0; i < 3; i++) {
        memset(&sender, 0xff, sizeof(sender));
        length = sizeof(sender);
        CHECK_EQ(hoop_sys_recv_from(right, buffer, 5, (struct sockaddr *)&sender, &length),
                 received[i]);
        CHECK(memcmp(buffer, texts[i], received[i]) == 0);
        CHECK_EQ(length, sizeof(sender));
        CHECK(memcmp(&sender, &left_name, sizeof(sender)) == 0);
    }
    close(left);
    close(right);
}

static void test_datagram_of_nobody(void) {
    struct sockaddr_un sender;
    char buffer[4];
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK_EQ(hoop_sys_send_to(pair[0], "x", 1, NULL, 0), 1);
    socklen_t length = sizeof(sender);
    CHECK_EQ(hoop_sys_recv_from(pair[1], buffer, 4, (struct sockaddr *)&sender, &length), 1);
    CHECK_EQ(length, 0);
    while (hoop_sys_send_to(pair[0], "x", 1, NULL, 0) == 1)
        continue;
    CHECK_EQ(hoop_sys_send_to(pair[0], "x", 1, NULL, 0), -EAGAIN);
    CHECK_EQ(hoop_sys_close(pair[1]), 0);
    CHECK_EQ(hoop_sys_send_to(pair[0], "x", 1, NULL, 0), -ECONNREFUSED);
    CHECK_EQ(hoop_sys_close(pair[0]), 0);
}

static void test_shutdown_write_is_the_end_for_the_peer(void) {
    int pair[2];
    char buffer[1];
    open_pair(pair);
    CHECK_EQ(hoop_sys_shutdown_write(pair[0]), 0);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, 1), 0);
    CHECK_EQ(hoop_sys_send(pair[1], "x", 1), 1);
    CHECK_EQ(hoop_sys_recv(pair[0], buffer, 1), 1);
    close_pair(pair);
}

static void test_accept(void) {
    struct sockaddr_in address, client_address, peer;
    int listener = open_listener(&address);
    socklen_t length = sizeof(peer);
    CHECK_EQ(hoop_sys_accept(listener, (struct sockaddr *)&peer, &length), -EAGAIN);

    int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(hoop_sys_shutdown_write(client), -ENOTCONN);
    REQUIRE(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
    int server = hoop_sys_accept(listener, (struct sockaddr *)&peer, &length);
    REQUIRE(server >= 0);
    CHECK(has_flags(server, FD_CLOEXEC, O_NONBLOCK));
    CHECK_EQ(length, sizeof(peer));
    length = sizeof(client_address);
    CHECK_EQ(hoop_sys_socket_name(client, (struct sockaddr *)&client_address, &length), 0);
    CHECK_EQ(peer.sin_port, client_address.sin_port);
    length = sizeof(peer);
    CHECK_EQ(hoop_sys_peer_name(client, (struct sockaddr *)&peer, &length), 0);
    CHECK_EQ(peer.sin_port, address.sin_port);
    CHECK_EQ(hoop_sys_peer_name(listener, (struct sockaddr *)&peer, &length), -ENOTCONN);
    close(client);
    close(server);
    close(listener);
}

static void test_datagrams_name_their_sender(void) {
    struct sockaddr_in first = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in second = first, from;
    socklen_t length = sizeof(first);
    char buffer[8];
    int left = socket(AF_INET, SOCK_DGRAM, 0), right = socket(AF_INET, SOCK_DGRAM, 0);
    REQUIRE(bind(left, (struct sockaddr *)&first, length) == 0);
    REQUIRE(bind(right, (struct sockaddr *)&second, length) == 0);
    REQUIRE(hoop_sys_socket_name(left, (struct sockaddr *)&first, &length) == 0);
    REQUIRE(hoop_sys_socket_name(right, (struct sockaddr *)&second, &length) == 0);
    CHECK_EQ(hoop_sys_recv_from(left, buffer, 8, (struct sockaddr *)&from, &length), -EAGAIN);
    CHECK_EQ(hoop_sys_send_to(right, "abc", 3, (struct sockaddr *)&first, sizeof(first)), 3);
    length = sizeof(from);
    CHECK_EQ(hoop_sys_recv_from(left, buffer, 8, (struct sockaddr *)&from, &length), 3);
    CHECK_EQ(from.sin_port, second.sin_port);
    close(left);
    close(right);
}

static void test_connect_in_the_background(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int error = 0;
    int bound = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(bind(bound, (struct sockaddr *)&address, length) == 0);
    REQUIRE(hoop_sys_socket_name(bound, (struct sockaddr *)&address, &length) == 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_EQ(hoop_sys_connect(client, (struct sockaddr *)&address, length), -EINPROGRESS);
    CHECK(hoop_sys_is_writable(client)); /* refused at once, on the loopback */
    CHECK_EQ(hoop_sys_socket_option(client, SOL_SOCKET, SO_ERROR, &error), 0);
    CHECK_EQ(error, ECONNREFUSED);
    close(client);
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    REQUIRE(listen(bound, 1) == 0);
    CHECK_EQ(hoop_sys_connect(client, (struct sockaddr *)&address, length), -EINPROGRESS);
    CHECK(hoop_sys_is_writable(client));
    CHECK_EQ(hoop_sys_connect(client, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(hoop_sys_connect(client, (struct sockaddr *)&address, length), -EISCONN);
    close(client);
    close(bound);
}

static void test_send_file_leaves_its_position(void) {
    char name[] = "/tmp/hoop-test-XXXXXX", buffer[8];
    int pair[2];
    int file = mkstemp(name);
    REQUIRE(file >= 0 && write(file, "abcdef", 6) == 6);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK_EQ(hoop_sys_file_size(file), 6);
    CHECK_EQ(hoop_sys_send_file(pair[0], file, 2, 100), 4);
    CHECK_EQ(hoop_sys_send_file(pair[0], file, 6, 100), 0);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, 8), 4);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 6);
    CHECK_EQ(hoop_sys_file_seek(file, 3), 0);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 3);
    CHECK_EQ(hoop_sys_file_seek(pair[0], 3), -ESPIPE);
    unlink(name);
    close(file);
    close(pair[0]);
    close(pair[1]);
}

static void test_socket_options(void) {
    struct sockaddr_in address;
    int listener = open_listener(&address);
    int value = 7;
    CHECK_EQ(hoop_sys_socket_option(listener, IPPROTO_TCP, TCP_NODELAY, &value), 0);
    CHECK_EQ(value, 0);
    CHECK_EQ(hoop_sys_set_socket_option(listener, IPPROTO_TCP, TCP_NODELAY, 1), 0);
    CHECK_EQ(hoop_sys_socket_option(listener, IPPROTO_TCP, TCP_NODELAY, &value), 0);
    CHECK_EQ(value, 1);
    value = 7;
    CHECK_EQ(hoop_sys_socket_option(listener, IPPROTO_TCP, -1, &value), -ENOPROTOOPT);
    CHECK_EQ(hoop_sys_set_socket_option(listener, IPPROTO_TCP, -1, 1), -ENOPROTOOPT);
    CHECK_EQ(value, 7);
    close(listener);
}

static void test_bad_descriptor_is_an_error_everywhere(void) {
    char buffer[1];
    int value = 7;
    struct iovec vector[] = {{buffer, 0}};
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    struct epoll_event event = {0};
    CHECK_EQ(hoop_sys_epoll_ctl(-1, EPOLL_CTL_ADD, 0, &event), -EBADF);
    CHECK_EQ(hoop_sys_epoll_wait(-1, &event, 1, 1), -EBADF);
    CHECK_EQ(hoop_sys_eventfd_add(-1, 1), -EBADF);
    CHECK_EQ(hoop_sys_close(-1), -EBADF);
    CHECK_EQ(hoop_sys_recv(-1, buffer, 1), -EBADF);
    CHECK_EQ(hoop_sys_send(-1, buffer, 1), -EBADF);
    CHECK_EQ(hoop_sys_send_vector(-1, vector, 1), -EBADF);
    CHECK_EQ(hoop_sys_recv_from(-1, buffer, 1, NULL, NULL), -EBADF);
    CHECK_EQ(hoop_sys_send_to(-1, buffer, 1, NULL, 0), -EBADF);
    CHECK_EQ(hoop_sys_accept(-1, NULL, NULL), -EBADF);
    CHECK_EQ(hoop_sys_recv_from(-1, buffer, 1, NULL, NULL), -EBADF);
    CHECK_EQ(hoop_sys_send_to(-1, buffer, 1, NULL, 0), -EBADF);
    CHECK_EQ(hoop_sys_send_file(-1, -1, 0, 1), -EBADF);
    CHECK_EQ(hoop_sys_file_size(-1), -EBADF);
    CHECK_EQ(hoop_sys_file_seek(-1, 0), -EBADF);
    CHECK_EQ(hoop_sys_connect(-1, (struct sockaddr *)&address, length), -EBADF);
    CHECK_EQ(hoop_sys_shutdown_write(-1), -EBADF);
    CHECK_EQ(hoop_sys_socket_option(-1, SOL_SOCKET, SO_ERROR, &value), -EBADF);
    CHECK_EQ(hoop_sys_set_socket_option(-1, SOL_SOCKET, SO_KEEPALIVE, 1), -EBADF);
    CHECK_EQ(hoop_sys_socket_name(-1, (struct sockaddr *)&address, &length), -EBADF);
    CHECK_EQ(hoop_sys_peer_name(-1, (struct sockaddr *)&address, &length), -EBADF);
    CHECK_EQ(value, 7);
}

static void test_own_descriptors_are_close_on_exec(void) {
    int epoll_fd = hoop_sys_epoll_create();
    int event_fd = hoop_sys_eventfd();
    REQUIRE(epoll_fd >= 0 && event_fd >= 0);
    CHECK(has_flags(epoll_fd, FD_CLOEXEC, 0));
    CHECK(has_flags(event_fd, FD_CLOEXEC, O_NONBLOCK));
    CHECK_EQ(hoop_sys_close(epoll_fd), 0);
    CHECK_EQ(hoop_sys_close(event_fd), 0);
    CHECK_EQ(hoop_sys_close(event_fd), -EBADF);
}

static void test_eventfd_adds_up(void) {
    int fd = hoop_sys_eventfd();
    uint64_t value;
    CHECK_EQ(hoop_sys_eventfd_add(fd, 1), 0);
    CHECK_EQ(hoop_sys_eventfd_add(fd, 2), 0);
    CHECK_EQ(read(fd, &value, sizeof(value)), sizeof(value));
    CHECK_EQ(value, 3);
    CHECK_EQ(hoop_sys_eventfd_add(fd, UINT64_MAX - 1), 0);
    CHECK_EQ(hoop_sys_eventfd_add(fd, 1), -EAGAIN);
    CHECK_EQ(hoop_sys_close(fd), 0);
}

static void test_interrupted_calls_are_repeated(void) {
    struct sockaddr_in address;
    char buffer[8] = "x";
    struct iovec vector[] = {{buffer, 1}};
    int pair[2];
    open_pair(pair);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_send(pair[0], "x", 1), 1);
    CHECK_EQ(calls, 4);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_send_vector(pair[0], vector, 1), 1);
    CHECK_EQ(calls, 4);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_recv(pair[1], buffer, sizeof(buffer)), 2);
    CHECK_EQ(calls, 4);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_send_to(pair[0], "x", 1, NULL, 0), 1);
    CHECK_EQ(calls, 4);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_recv_from(pair[1], buffer, sizeof(buffer), NULL, NULL), 1);
    CHECK_EQ(calls, 4);
    close_pair(pair);

    int listener = open_listener(&address);
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_accept(listener, NULL, NULL), -EAGAIN);
    CHECK_EQ(calls, 4);
    close(listener);

    int event_fd = hoop_sys_eventfd();
    inject(EINTR, 3);
    CHECK_EQ(hoop_sys_eventfd_add(event_fd, 1), 0);
    CHECK_EQ(calls, 4);
    close(event_fd);
}

static void test_other_errors_are_not_repeated(void) {
    char buffer[1];
    inject(ECONNRESET, 1);
    CHECK_EQ(hoop_sys_recv(-1, buffer, 1), -ECONNRESET);
    CHECK_EQ(calls, 1);
    inject(EMFILE, 1);
    CHECK_EQ(hoop_sys_accept(-1, NULL, NULL), -EMFILE);
    CHECK_EQ(calls, 1);
}

static void test_interrupted_wait_is_not_repeated(void) {
    struct epoll_event event;
    const int64_t timeouts_ns[] = {-1, 0, 1000};
    int epoll_fd = hoop_sys_epoll_create();
    for (size_t i = 0; i < 3; i++) {
        inject(EINTR, 1);
        CHECK_EQ(hoop_sys_epoll_wait(epoll_fd, &event, 1, timeouts_ns[i]), -EINTR);
        CHECK_EQ(calls, 1);
    }
    close(epoll_fd);
}

/* Without epoll_pwait2 (an old kernel, a sandbox that refuses it) the wait is in milliseconds. */
static void test_wait_in_milliseconds_is_never_early(void) {
    const struct {
        int64_t timeout_ns;
        int expected_ms;
    } cases[] = {{-1, -1},
                 {INT64_MIN, -1},
                 {0, 0},
                 {1, 1},
                 {999999, 1},
                 {1000000, 1},
                 {1000001, 2},
                 {1999999999, 2000},
                 {INT64_C(86400000000000), 86400000},
                 {INT64_MAX, 86400000}};
    const int errors[] = {ENOSYS, EPERM};
    struct epoll_event event;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t j = 0; j < 2; j++) {
            last_timeout_ms = -2;
            inject(errors[j], cases[i].timeout_ns > 0);
            CHECK_EQ(hoop_sys_epoll_wait(-1, &event, 1, cases[i].timeout_ns), 0);
            CHECK_EQ(last_timeout_ms, cases[i].expected_ms);
        }
    }
    inject(EPERM, 2);
    CHECK_EQ(hoop_sys_epoll_wait(-1, &event, 1, 1), -EPERM);
}

static void open_pipe(int ends[2]) {
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
}

static void test_pipe_read_and_written(void) {
    char text[] = "hoop", buffer[8] = {0};
    struct iovec vector[] = {{text, 2}, {text + 2, 2}};
    int ends[2];
    open_pipe(ends);
    CHECK_EQ(hoop_sys_write_vector(ends[1], vector, 2), 4);
    CHECK_EQ(hoop_sys_read(ends[0], buffer, sizeof(buffer)), 4);
    CHECK_TEXT(buffer, "hoop");
    CHECK_EQ(hoop_sys_close(ends[1]), 0);
    CHECK_EQ(hoop_sys_read(ends[0], buffer, sizeof(buffer)), 0);
    CHECK_EQ(hoop_sys_close(ends[0]), 0);
}

/* A pipe in blocking mode; `error`: what the kernel says to RWF_NOWAIT, 0 if it knows it. */
static void check_blocking_pipe(int error) {
    static char block[1 << 17];
    char buffer[8] = {0};
    struct iovec few[] = {{block, 3}}, many[] = {{block, sizeof(block)}};
    const int times = error == 0 ? 0 : 1;
    int ends[2];
    open_pipe(ends);
    inject(error, times);
    CHECK_EQ(hoop_sys_read_now(ends[0], buffer, sizeof(buffer)), -EAGAIN);
    inject(error, times);
    CHECK_EQ(hoop_sys_write_now(ends[1], few, 1), 3);
    inject(error, times);
    CHECK_EQ(hoop_sys_read_now(ends[0], buffer, sizeof(buffer)), 3);
    ssize_t sent, total = 0;
    do {
        inject(error, times);
        sent = hoop_sys_write_now(ends[1], many, 1);
        total += sent > 0 ? sent : 0;
    } while (sent > 0);
    CHECK_EQ(sent, -EAGAIN);
    CHECK_EQ(total, 1 << 16);
    CHECK_EQ(hoop_sys_close(ends[1]), 0);
    while (total > 0) {
        inject(error, times);
        total -= hoop_sys_read_now(ends[0], block, sizeof(block));
    }
    inject(error, times);
    CHECK_EQ(hoop_sys_read_now(ends[0], buffer, sizeof(buffer)), 0);
    CHECK_EQ(hoop_sys_close(ends[0]), 0);
}

static void test_blocking_pipe_is_never_waited_for(void) {
    const int errors[] = {0, EOPNOTSUPP, ENOSYS, EPERM, EINVAL};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        check_blocking_pipe(errors[i]);
    inject(0, 0);
}

static void test_errors_of_a_blocking_pipe(void) {
    char buffer[1];
    struct iovec vector[] = {{buffer, 1}};
    inject(EIO, 1);
    CHECK_EQ(hoop_sys_read_now(-1, buffer, 1), -EIO);
    inject(EINTR, 2);
    CHECK_EQ(hoop_sys_write_now(-1, vector, 1), -EBADF);
    CHECK_EQ(calls, 3);
}

static void test_pidfd(void) {
    int pidfd = hoop_sys_pidfd_open(getpid());
    REQUIRE(pidfd >= 0);
    CHECK(has_flags(pidfd, FD_CLOEXEC, 0));
    CHECK_EQ(hoop_sys_pidfd_send_signal(pidfd, 0), 0);
    CHECK_EQ(hoop_sys_pidfd_send_signal(pidfd, -1), -EINVAL);
    CHECK_EQ(hoop_sys_close(pidfd), 0);
    CHECK_EQ(hoop_sys_pidfd_send_signal(pidfd, 0), -EBADF);
    CHECK_EQ(hoop_sys_pidfd_open(-1), -EINVAL);
    inject(ENOSYS, 1);
    CHECK_EQ(hoop_sys_pidfd_open(getpid()), -ENOSYS);
}

int main(void) {
    RUN(test_send_and_recv);
    RUN(test_send_until_the_buffer_is_full);
    RUN(test_send_vector_gathers);
    RUN(test_send_vector_takes_so_many_parts_and_no_more);
    RUN(test_peer_gone_is_an_error_and_no_signal);
    RUN(test_datagrams_come_with_their_senders);
    RUN(test_datagram_of_nobody);
    RUN(test_shutdown_write_is_the_end_for_the_peer);
    RUN(test_accept);
    RUN(test_datagrams_name_their_sender);
    RUN(test_connect_in_the_background);
    RUN(test_send_file_leaves_its_position);
    RUN(test_socket_options);
    RUN(test_bad_descriptor_is_an_error_everywhere);
    RUN(test_own_descriptors_are_close_on_exec);
    RUN(test_eventfd_adds_up);
    RUN(test_interrupted_calls_are_repeated);
    RUN(test_other_errors_are_not_repeated);
    RUN(test_interrupted_wait_is_not_repeated);
    RUN(test_wait_in_milliseconds_is_never_early);
    RUN(test_pipe_read_and_written);
    RUN(test_blocking_pipe_is_never_waited_for);
    RUN(test_errors_of_a_blocking_pipe);
    RUN(test_pidfd);
    return check_report();
}
