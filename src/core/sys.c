/* SPDX-License-Identifier: MIT */
#include "core/sys.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

#ifndef SYS_pidfd_open
#define SYS_pidfd_send_signal 424
#define SYS_pidfd_open 434
#endif

/* Runs the call again while a signal interrupts it; the value is the call's or -errno. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
        if ((result) < 0)                                                                          \
            (result) = -errno;                                                                     \
    } while ((result) == -EINTR)

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* headers before Linux 5.11 don't know it; the kernel may */
#endif

int hoop_sys_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int hoop_sys_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
    return epoll_ctl(epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

/* Kernels before 5.11 have no epoll_pwait2: milliseconds, rounded up so as never to be early. */
static int wait_in_ms(int epoll_fd, struct epoll_event *events, int capacity, int64_t timeout_ns) {
    const int64_t longest_ms = 24 * 3600 * 1000;
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    if (ms > longest_ms)
        ms = longest_ms;
    int count = epoll_wait(epoll_fd, events, capacity, timeout_ns < 0 ? -1 : (int)ms);
    return count < 0 ? -errno : count;
}

int hoop_sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity,
                        int64_t timeout_ns) {
    if (timeout_ns <= 0)
        return wait_in_ms(epoll_fd, events, capacity, timeout_ns);
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long count = syscall(SYS_epoll_pwait2, epoll_fd, events, capacity, &timeout, NULL, 0);
    if (count >= 0)
        return (int)count;
    if (errno != ENOSYS && errno != EPERM)
        return -errno;
    return wait_in_ms(epoll_fd, events, capacity, timeout_ns);
}

int hoop_sys_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int hoop_sys_eventfd_add(int fd, uint64_t value) {
    ssize_t result;
    RETRY(result, write(fd, &value, sizeof(value)));
    return result < 0 ? (int)result : 0;
}

int hoop_sys_close(int fd) {
    return close(fd) < 0 ? -errno : 0;
}

ssize_t hoop_sys_recv(int fd, void *buffer, size_t size) {
    ssize_t result;
    RETRY(result, recv(fd, buffer, size, MSG_DONTWAIT));
    return result;
}

ssize_t hoop_sys_send(int fd, const void *buffer, size_t size) {
    ssize_t result;
    RETRY(result, send(fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL));
    return result;
}

ssize_t hoop_sys_send_vector(int fd, struct iovec *vector, size_t count) {
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = count};
    ssize_t result;
    RETRY(result, sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
    return result;
}

ssize_t hoop_sys_recv_from(int fd, void *buffer, size_t size, struct sockaddr *address,
                           socklen_t *length) {
    ssize_t result;
    RETRY(result, recvfrom(fd, buffer, size, MSG_DONTWAIT, address, length));
    return result;
}

ssize_t hoop_sys_send_to(int fd, const void *buffer, size_t size, const struct sockaddr *address,
                         socklen_t length) {
    ssize_t result;
    RETRY(result, sendto(fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL, address, length));
    return result;
}

ssize_t hoop_sys_send_file(int fd, int file, off_t offset, size_t size) {
    ssize_t result;
    RETRY(result, sendfile(fd, file, &offset, size));
    return result;
}

int64_t hoop_sys_file_size(int fd) {
    struct stat info;
    return fstat(fd, &info) < 0 ? -errno : info.st_size;
}

int hoop_sys_file_seek(int fd, off_t offset) {
    return lseek(fd, offset, SEEK_SET) < 0 ? -errno : 0;
}

int hoop_sys_connect(int fd, const struct sockaddr *address, socklen_t length) {
    return connect(fd, address, length) < 0 ? -errno : 0;
}

static bool is_ready(int fd, short events) {
    struct pollfd entry = {.fd = fd, .events = events};
    return poll(&entry, 1, 0) > 0;
}

bool hoop_sys_is_writable(int fd) {
    return is_ready(fd, POLLOUT);
}

ssize_t hoop_sys_read(int fd, void *buffer, size_t size) {
    ssize_t result;
    RETRY(result, read(fd, buffer, size));
    return result;
}

ssize_t hoop_sys_write_vector(int fd, const struct iovec *vector, size_t count) {
    ssize_t result;
    RETRY(result, writev(fd, vector, (int)count));
    return result;
}

/* Terminals, older kernels and some sandboxes refuse the flag, each in its own way. */
static bool lacks_nowait(ssize_t result) {
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -EPERM || result == -EINVAL;
}

ssize_t hoop_sys_read_now(int fd, void *buffer, size_t size) {
    struct iovec vector = {buffer, size};
    ssize_t result;
    RETRY(result, preadv2(fd, &vector, 1, -1, RWF_NOWAIT));
    if (!lacks_nowait(result))
        return result;
    return is_ready(fd, POLLIN) ? hoop_sys_read(fd, buffer, size) : -EAGAIN;
}

ssize_t hoop_sys_write_now(int fd, const struct iovec *vector, size_t count) {
    ssize_t result;
    RETRY(result, pwritev2(fd, vector, (int)count, -1, RWF_NOWAIT));
    if (!lacks_nowait(result))
        return result;
    if (!is_ready(fd, POLLOUT))
        return -EAGAIN;
    /* A pipe that is ready has room for this much. */
    size_t size = vector[0].iov_len < PIPE_BUF ? vector[0].iov_len : PIPE_BUF;
    RETRY(result, write(fd, vector[0].iov_base, size));
    return result;
}

int hoop_sys_accept(int fd, struct sockaddr *address, socklen_t *length) {
    int result;
    RETRY(result, accept4(fd, address, length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return result;
}

int hoop_sys_shutdown_write(int fd) {
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

int hoop_sys_socket_option(int fd, int level, int name, int *value) {
    int found = 0;
    socklen_t length = sizeof(found);
    if (getsockopt(fd, level, name, &found, &length) < 0)
        return -errno;
    *value = found;
    return 0;
}

int hoop_sys_set_socket_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int hoop_sys_socket_name(int fd, struct sockaddr *address, socklen_t *length) {
    return getsockname(fd, address, length) < 0 ? -errno : 0;
}

int hoop_sys_peer_name(int fd, struct sockaddr *address, socklen_t *length) {
    return getpeername(fd, address, length) < 0 ? -errno : 0;
}

int hoop_sys_pidfd_open(pid_t pid) {
    long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : (int)fd;
}

int hoop_sys_pidfd_send_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}
