/* SPDX-License-Identifier: MIT
 *
 * fork: tells a forked child from its parent.
 *
 * A loop's epoll object is shared with every child: what the child changes in
 * it, the parent loses. So a loop remembers the count at which it was made, and
 * where the count differs it refuses to run and leaves the epoll object alone.
 * Threads: the count changes only in a child, which has one thread then.
 */
#ifndef HOOP_PY_FORK_H
#define HOOP_PY_FORK_H

/* Registers the counter; once per process, later calls do nothing. 0 or -errno. */
int pyhoop_fork_init(void);

/* How many forks lie between this process and the one that loaded hoop. */
extern unsigned long pyhoop_fork_count;

#endif
