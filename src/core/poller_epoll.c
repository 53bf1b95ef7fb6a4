/* SPDX-License-Identifier: MIT */
#include "core/assert.h"
#include "core/poller.h"
#include "core/sys.h"

enum { MAX_EVENTS = 256 };

static struct epoll_event to_epoll(uint32_t events, uint64_t token) {
    struct epoll_event event = {.data.u64 = token};
    if (events & HOOP_POLL_READ)
        event.events |= EPOLLIN;
    if (events & HOOP_POLL_WRITE)
        event.events |= EPOLLOUT;
    if (events & HOOP_POLL_EDGE)
        event.events |= EPOLLET;
    return event;
}

static uint32_t from_epoll(uint32_t found) {
    uint32_t events = 0;
    if (found & (EPOLLIN | EPOLLPRI))
        events |= HOOP_POLL_READ;
    if (found & EPOLLOUT)
        events |= HOOP_POLL_WRITE;
    if (found & (EPOLLERR | EPOLLHUP))
        events |= HOOP_POLL_BROKEN;
    return events;
}

static int epoll_add(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = to_epoll(events, token);
    return hoop_sys_epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event);
}

static int epoll_modify(struct hoop_poller *poller, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = to_epoll(events, token);
    return hoop_sys_epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event);
}

static int epoll_remove(struct hoop_poller *poller, int fd) {
    struct epoll_event unused = {0}; /* kernels before 2.6.9 wanted a pointer */
    return hoop_sys_epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, &unused);
}

static int epoll_wait_for(struct hoop_poller *poller, struct hoop_poll_event *events, int capacity,
                          int64_t timeout_ns) {
    struct epoll_event found[MAX_EVENTS];
    HOOP_ASSERT(capacity <= MAX_EVENTS);
    int count = hoop_sys_epoll_wait(poller->fd, found, capacity, timeout_ns);
    for (int i = 0; i < count; i++)
        events[i] = (struct hoop_poll_event){found[i].data.u64, from_epoll(found[i].events)};
    return count;
}

static void epoll_close(struct hoop_poller *poller) {
    hoop_sys_close(poller->fd);
    poller->fd = -1;
}

static const struct hoop_poller_type epoll_type = {
    .add = epoll_add,
    .modify = epoll_modify,
    .remove = epoll_remove,
    .wait = epoll_wait_for,
    .close = epoll_close,
};

int hoop_poller_open_epoll(struct hoop_poller *poller) {
    int fd = hoop_sys_epoll_create();
    if (fd < 0)
        return fd;
    *poller = (struct hoop_poller){&epoll_type, fd};
    return 0;
}
