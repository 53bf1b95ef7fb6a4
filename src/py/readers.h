/* SPDX-License-Identifier: MIT
 *
 * readers: who waits for a descriptor that is no transport's: the callbacks of
 * add_reader and add_writer, and socket operations (operation.h).
 *
 * Layer: py, beside transports. asyncio: BaseSelectorEventLoop._add_reader etc.
 * Owns: up to two handles a descriptor; a reference to the owner of each
 *   waiter. Never the descriptor, nor its flags.
 * Order: a ready descriptor's handle goes through the ready queue, reader
 *   first, as in asyncio. Waiters are woken in the order they came, all of them:
 *   the first takes what there is, the others wait again, and one that is
 *   cancelled meanwhile takes nobody's turn.
 * Cost: while only operations use a descriptor it is watched by edges, and
 *   stays so between them: receive, wait, receive, wait makes no epoll_ctl. Its
 *   record remembers the socket object by a weak reference, so that a number
 *   that was closed and used again is watched anew. (A file put under the number
 *   by dup2, with the socket object still open, is not noticed.)
 */
#ifndef HOOP_PY_READERS_H
#define HOOP_PY_READERS_H

#include <stdbool.h>

#include "py/loop.h"

enum pyhoop_direction { PYHOOP_READER, PYHOOP_WRITER };

struct pyhoop_reader;

/* One who waits for a descriptor to be ready, once; embedded in `owner`. */
struct pyhoop_waiter {
    struct pyhoop_waiter *next; /* NULL: it is in no list */
    struct pyhoop_waiter *previous;
    struct pyhoop_reader *reader; /* NULL when it is being woken */
    PyObject *owner;              /* a reference while it is in a list */
    PyObject *future;             /* borrowed from the owner: gets its result when ready */
};

/* Puts `waiter`, with owner and future set, among those who wait for `socket`, whose
 * descriptor is `fd`. The caller has just been told EAGAIN. -1 with an exception set. */
int pyhoop_waiter_enter(LoopObject *loop, PyObject *socket, int fd, enum pyhoop_direction direction,
                        struct pyhoop_waiter *waiter);

/* Does nothing if it is in no list. The owner must be held by the caller. */
void pyhoop_waiter_leave(struct pyhoop_waiter *waiter);

/* Raises RuntimeError and returns -1 if an open transport has `fd`, named as `file`. */
int pyhoop_reader_check_no_transport(LoopObject *loop, PyObject *file, int fd);

/* selectors._fileobj_to_fd: an int, or what has fileno(). -1 with ValueError set. */
int pyhoop_fd_of(struct pyhoop_state *state, PyObject *file);

PyObject *pyhoop_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);
PyObject *pyhoop_loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);

/* The same without asking whether a transport has the descriptor, for asyncio's own code. */
PyObject *pyhoop_loop_add_reader_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *pyhoop_loop_add_writer_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *pyhoop_loop_remove_reader_private(PyObject *self, PyObject *file);
PyObject *pyhoop_loop_remove_writer_private(PyObject *self, PyObject *file);

/* Raises RuntimeError if an open transport has the descriptor. */
PyObject *pyhoop_loop_ensure_fd_no_transport(PyObject *self, PyObject *file);

/* What the descriptor's callbacks wait for: selectors.EVENT_READ | EVENT_WRITE. */
PyObject *pyhoop_loop_polled_events(PyObject *self, PyObject *fd);

#endif
