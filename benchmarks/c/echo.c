/* SPDX-License-Identifier: MIT
 *
 * The first limit: an echo server in plain C over level-triggered epoll. One recv a readiness
 * event, the reply sent at once; what the kernel does not take waits for EPOLLOUT, and the
 * connection is not read meanwhile.
 *
 * With --udp: datagrams on one socket, each received and sent back by a call of its own until none
 * is left; a reply that finds no room is dropped.
 *
 *   echo [--udp] ADDRESS     prints "ready PORT" (PORT 0 for a unix socket) when it listens
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

enum { EVENTS = 256, SCRATCH_BYTES = 256 * 1024 };

struct connection {
    int fd;
    char *pending; /* malloc'ed rest of a reply, NULL if there is none */
    size_t offset;
    size_t length;
};

static char scratch[SCRATCH_BYTES];

static int listen_on(const struct address *address) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    if (bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0)
        fail("bind");
    if (listen(fd, 1024) < 0)
        fail("listen");
    return fd;
}

static int port_of(int fd) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0)
        fail("getsockname");
    if (storage.ss_family != AF_INET)
        return 0;
    return ntohs(((struct sockaddr_in *)&storage)->sin_port);
}

static void accept_one(int epoll, int listener, const struct address *address) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED)
            return;
        fail("accept");
    }
    set_nodelay(fd, address);
    struct connection *connection = calloc(1, sizeof *connection);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (!connection)
        fail("calloc");
    connection->fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection->pending);
    free(connection);
}

static void watch(int epoll, struct connection *connection, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl");
}

static void keep_rest(int epoll, struct connection *connection, const char *data, size_t length) {
    connection->pending = malloc(length);
    if (!connection->pending)
        fail("malloc");
    memcpy(connection->pending, data, length);
    connection->offset = 0;
    connection->length = length;
    watch(epoll, connection, EPOLLOUT);
}

static void echo_some(int epoll, struct connection *connection) {
    ssize_t n = recv(connection->fd, scratch, sizeof scratch, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(connection);
        return;
    }
    ssize_t sent = send(connection->fd, scratch, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(connection);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    if (sent < n)
        keep_rest(epoll, connection, scratch + sent, (size_t)(n - sent));
}

static void send_rest(int epoll, struct connection *connection) {
    ssize_t sent = send(connection->fd, connection->pending + connection->offset,
                        connection->length - connection->offset, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(connection);
        return;
    }
    connection->offset += (size_t)sent;
    if (connection->offset == connection->length) {
        free(connection->pending);
        connection->pending = NULL;
        watch(epoll, connection, EPOLLIN);
    }
}

__attribute__((noreturn)) static void echo_datagrams(const struct address *address) {
    int fd = socket(address->storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int room = 1 << 20;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) < 0 ||
        bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("datagram socket");
    printf("ready %d\n", port_of(fd));
    fflush(stdout);
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 0)
            fail("epoll_wait");
        struct sockaddr_storage peer;
        ssize_t n;
        do {
            socklen_t length = sizeof peer;
            n = recvfrom(fd, scratch, sizeof scratch, 0, (struct sockaddr *)&peer, &length);
            if (n >= 0)
                sendto(fd, scratch, (size_t)n, 0, (struct sockaddr *)&peer, length);
        } while (n >= 0);
    }
}

int main(int argc, char **argv) {
    bool is_datagram = argc == 3 && strcmp(argv[1], "--udp") == 0;
    if (argc != 2 + is_datagram)
        fail("usage: echo [--udp] ADDRESS");
    struct address address = address_parse(argv[1 + is_datagram]);
    if (is_datagram)
        echo_datagrams(&address);
    int listener = listen_on(&address);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0)
        fail("epoll");
    printf("ready %d\n", port_of(listener));
    fflush(stdout);

    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_one(epoll, listener, &address);
            else if (connection->pending)
                send_rest(epoll, connection);
            else
                echo_some(epoll, connection);
        }
    }
}
