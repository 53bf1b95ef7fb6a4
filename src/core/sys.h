/* SPDX-License-Identifier: MIT
 *
 * sys: every system call hoop makes, and the only file that reads errno.
 *
 * Errors: each returns -errno. A call that was interrupted by a signal is
 *   repeated, but for the wait, whose caller must get to run signal handlers,
 *   and connect, which goes on by itself.
 * Flags: descriptors are made close-on-exec and non-blocking; a send never
 *   raises SIGPIPE.
 */
#ifndef HOOP_CORE_SYS_H
#define HOOP_CORE_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

int hoop_sys_epoll_create(void);
int hoop_sys_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

/* `timeout_ns` < 0 waits for ever. The count of events, or -EINTR. */
int hoop_sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int64_t timeout_ns);

int hoop_sys_eventfd(void);
int hoop_sys_eventfd_add(int fd, uint64_t value);

/* -EINTR is not repeated: on Linux the descriptor is gone whatever close says. */
int hoop_sys_close(int fd);

ssize_t hoop_sys_recv(int fd, void *buffer, size_t size);
ssize_t hoop_sys_send(int fd, const void *buffer, size_t size);
ssize_t hoop_sys_send_vector(int fd, struct iovec *vector, size_t count);

/* A datagram, cut off at `size`. `length` is that of the buffer at `address`, then that of the
 * sender's address: 0 if it has none. */
ssize_t hoop_sys_recv_from(int fd, void *buffer, size_t size, struct sockaddr *address,
                           socklen_t *length);
ssize_t hoop_sys_send_to(int fd, const void *buffer, size_t size, const struct sockaddr *address,
                         socklen_t length);

/* From `offset` of `file`, whose position stays. May block for the file, never for a
 * non-blocking `fd`. */
ssize_t hoop_sys_send_file(int fd, int file, off_t offset, size_t size);
int64_t hoop_sys_file_size(int fd);
int hoop_sys_file_seek(int fd, off_t offset);

/* -EINPROGRESS, -EALREADY or -EINTR: it goes on in the kernel, and ends by making `fd` writable. */
int hoop_sys_connect(int fd, const struct sockaddr *address, socklen_t length);

/* Whether a write to `fd`, or the end of its connect, would not wait: errors included. */
bool hoop_sys_is_writable(int fd);
ssize_t hoop_sys_read(int fd, void *buffer, size_t size);
ssize_t hoop_sys_write_vector(int fd, const struct iovec *vector, size_t count);
/* The same for a pipe or terminal that is in blocking mode and stays so: -EAGAIN instead of a
 * wait, unless another process takes what was there between look and read. */
ssize_t hoop_sys_read_now(int fd, void *buffer, size_t size);
ssize_t hoop_sys_write_now(int fd, const struct iovec *vector, size_t count);

int hoop_sys_accept(int fd, struct sockaddr *address, socklen_t *length);
int hoop_sys_shutdown_write(int fd);
int hoop_sys_socket_option(int fd, int level, int name, int *value);
int hoop_sys_set_socket_option(int fd, int level, int name, int value);
int hoop_sys_socket_name(int fd, struct sockaddr *address, socklen_t *length);
int hoop_sys_peer_name(int fd, struct sockaddr *address, socklen_t *length);

int hoop_sys_pidfd_open(pid_t pid);
int hoop_sys_pidfd_send_signal(int pidfd, int signal);

#endif
