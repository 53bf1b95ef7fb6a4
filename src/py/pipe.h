/* SPDX-License-Identifier: MIT
 *
 * pipe: transports of one direction, for pipes, terminals and sockets.
 *
 * Layer: py, over transport. asyncio: unix_events._UnixReadPipeTransport and
 *   _UnixWritePipeTransport. The structure, the life and the flow control are those
 *   of transport.h; here is what differs.
 * Owns: the pipe object it was given, closed at the end; a descriptor of its own
 *   beside it (flag OWN_FD), except for a child's pipes.
 * Blocking: hoop/_pipes.py decides how a descriptor is read and written without
 *   waiting, and says so by `access`.
 * Order: a write goes out at once, never together with later ones.
 */
#ifndef HOOP_PY_PIPE_H
#define HOOP_PY_PIPE_H

#include <stdbool.h>

#include "py/transport.h"

enum pyhoop_pipe_access {
    PYHOOP_PIPE_SOCKET,      /* recv() and send(), told not to wait */
    PYHOOP_PIPE_NONBLOCKING, /* read() and write() */
    PYHOOP_PIPE_SHARED,      /* in blocking mode: others have it too */
};

extern PyType_Spec pyhoop_read_pipe_spec;
extern PyType_Spec pyhoop_write_pipe_spec;

/* loop._make_pipe_transport(pipe, fd, is_reader, access, protocol, waiter, extra,
 * hears_end=True). On error the caller still has `fd`. */
PyObject *pyhoop_loop_make_pipe_transport(PyObject *self, PyObject *args, PyObject *kwargs);

ssize_t pyhoop_pipe_receive(TransportObject *self, void *buffer, size_t size);
ssize_t pyhoop_pipe_send(int fd, uint32_t flags, const struct iovec *vector, size_t count);

/* A read pipe's end of file. 0, or -1 with an exception to leave the loop. */
int pyhoop_pipe_ended(TransportObject *self);

/* Nobody reads any more what a write pipe sends. As above. */
int pyhoop_pipe_hung_up(TransportObject *self);

/* How the end of a terminal's other side is told: an OSError with EIO. */
bool pyhoop_pipe_is_hang_up(PyObject *exception);

#endif
