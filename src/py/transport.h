/* SPDX-License-Identifier: MIT
 *
 * transport: one connected stream socket, TCP or unix, and its protocol.
 *
 * A datagram transport (datagram.h) begins with one and shares what has no streams
 * in it: life cycle, calls into the protocol, closing, flow control, extra info.
 *
 * Layer: py, over loop. asyncio: selector_events._SelectorSocketTransport.
 *   transport.c has the life cycle, transport_type.c the Python side,
 *   transport_info.c what it knows of its socket, transport_read.c what comes in,
 *   transport_write.c what goes out and flow control.
 *   pipe.c has the types of pipe transports, which are this one with other I/O.
 * Owns: the descriptor (through its socket object once somebody asked for one),
 *   protocol, context, what is still to be sent. The loop holds a reference to
 *   the transport while it wants events (flag HELD), a queued item another.
 * Threads: the loop's.
 * Errors: what a protocol method raises goes to the exception handler and
 *   closes the transport; SystemExit and KeyboardInterrupt leave the loop.
 * Life: new -> (item) connection_made, reading -> close, abort, error or end of
 *   file -> (item) connection_lost once, descriptor closed.
 * Order: the first write of an iteration goes out at once; those after it leave
 *   together at the end of the phase, sooner when they are many bytes, when
 *   somebody looks (get_write_buffer_size, close, write_eof, ...), or when the
 *   loop is not running here. A transport that was seen to write more than once
 *   an iteration (COALESCES) holds back the first one too, so that head and
 *   body of an answer leave in one segment; one lone write ends that.
 * Invariants: 1. BLOCKED only while `out` holds something the kernel refused.
 *             2. conn_lost > 0 from the moment connection_lost is scheduled.
 */
#ifndef HOOP_PY_TRANSPORT_H
#define HOOP_PY_TRANSPORT_H

#include <netinet/in.h>
#include <stdbool.h>

#include "py/loop.h"
#include "py/outqueue.h"

enum pyhoop_transport_flag {
    PYHOOP_TRANSPORT_STARTED = 1,          /* reading may begin */
    PYHOOP_TRANSPORT_CLOSING = 2,          /* close() or an error */
    PYHOOP_TRANSPORT_PAUSED = 4,           /* pause_reading() */
    PYHOOP_TRANSPORT_READ_ENDED = 8,       /* end of file, kept open to write */
    PYHOOP_TRANSPORT_EOF_WRITTEN = 16,     /* write_eof() */
    PYHOOP_TRANSPORT_BLOCKED = 32,         /* the kernel's buffer is full */
    PYHOOP_TRANSPORT_PROTOCOL_PAUSED = 64, /* pause_writing() was called */
    PYHOOP_TRANSPORT_BUFFERED = 128,       /* a BufferedProtocol */
    PYHOOP_TRANSPORT_HELD = 256,           /* the loop has a reference */
    PYHOOP_TRANSPORT_LOST = 512,           /* connection_lost was called */
    PYHOOP_TRANSPORT_ATTACHED = 1024,      /* counted by its server */
    PYHOOP_TRANSPORT_COALESCES = 2048,     /* writes several times an iteration */
    PYHOOP_TRANSPORT_WROTE_ONCE = 4096,    /* in iteration `written_in` */
    PYHOOP_TRANSPORT_MADE = 8192,          /* connection_made was called */
    PYHOOP_TRANSPORT_QUEUED = 16384,       /* the item waits in the ready queue */
    PYHOOP_TRANSPORT_LOSING = 32768,       /* connection_lost is to be called */
    PYHOOP_TRANSPORT_READ_PIPE = 0x10000,  /* pipe.h */
    PYHOOP_TRANSPORT_WRITE_PIPE = 0x20000, /* pipe.h */
    PYHOOP_TRANSPORT_OWN_FD = 0x40000,     /* `fd` is not the file's own */
    PYHOOP_TRANSPORT_NO_SOCKET = 0x80000,  /* read() and write(), not recv() and send() */
    PYHOOP_TRANSPORT_SHARED = 0x100000,    /* in blocking mode, which is others' affair */
    PYHOOP_TRANSPORT_DEAF = 0x200000,      /* does not read, not even to hear of an end */
};

/* Seldom needed, so not part of each connection. */
struct pyhoop_transport_rare {
    PyObject *waiter;         /* told when connection_made was called */
    PyObject *empty_waiter;   /* told when everything is sent (sendfile) */
    PyObject *lost_exception; /* for connection_lost */
    struct sockaddr_in6 name; /* the socket's own address, kept when it was closed */
    socklen_t name_length;
};

typedef struct TransportObject {
    PyObject_HEAD
    PyObject *extra; /* the slot of asyncio.BaseTransport */
    PyObject *dict;
    PyObject *weakrefs;
    LoopObject *loop;
    PyObject *protocol;
    PyObject *context;
    PyObject *server;
    PyObject *socket; /* a socket.socket, when somebody asked or it came with one; a pipe's file */
    struct pyhoop_transport_rare *rare;
    struct StreamObject *stream; /* of the reader that received bytes go to; NULL: protocol's */
    struct hoop_watch watch;
    struct hoop_item item; /* its next step: start, read, or connection_lost */
    struct hoop_flush flush;
    struct pyhoop_outqueue out;
    size_t high_water;
    size_t low_water;
    uint32_t flags;
    uint32_t read_size;  /* bytes to ask for next; 0: small, by the scratch buffer */
    uint32_t written_in; /* the iteration of the last write (its number's low half) */
    int conn_lost;       /* asyncio's: also counts writes after the loss */
    int fd;
    socklen_t peer_length;    /* 0: not known yet */
    struct sockaddr_in6 peer; /* or sockaddr_in */
} TransportObject;

extern PyType_Spec pyhoop_transport_spec;

/* Takes over `fd` or, if `socket` is given, shares that object's; on error the
 * caller still has it. `context` NULL copies the current one. Protocol's
 * connection_made, reading, and the waiter's result follow from the loop. */
TransportObject *pyhoop_transport_new(LoopObject *loop, int fd, PyObject *socket,
                                      PyObject *protocol, PyObject *context, PyObject *server,
                                      PyObject *waiter, const struct sockaddr *peer,
                                      socklen_t peer_length);

/* A pipe transport of `type`; `flags` of enum pyhoop_transport_flag. Takes over `fd` if
 * that is not `file`'s own, and shares `file`; on error the caller still has it. */
TransportObject *pyhoop_transport_new_pipe(LoopObject *loop, PyTypeObject *type, uint32_t flags,
                                           int fd, PyObject *file, PyObject *protocol,
                                           PyObject *waiter);

/* loop._make_socket_transport(sock, protocol, waiter=None, *, extra=None, server=None,
 * context=None) */
PyObject *pyhoop_loop_make_socket_transport(PyObject *self, PyObject *args, PyObject *kwargs);

/* The transport that has `fd`, borrowed, or NULL. */
TransportObject *pyhoop_transport_of_fd(LoopObject *loop, int fd);

static inline bool pyhoop_transport_is_closing(const TransportObject *self) {
    return (self->flags & PYHOOP_TRANSPORT_CLOSING) != 0;
}

static inline bool pyhoop_transport_is_pipe(const TransportObject *self) {
    return self->flags & (PYHOOP_TRANSPORT_READ_PIPE | PYHOOP_TRANSPORT_WRITE_PIPE);
}

/* ---- between the transport's files ---- */

/* Tells the table what the transport wants now; may give up the loop's reference,
 * so the caller has one. 0, or -1 with an exception to leave the loop. */
int pyhoop_transport_update(TransportObject *self);

/* Calls a protocol method in the transport's context; `argument` may be NULL. */
PyObject *pyhoop_transport_call(TransportObject *self, PyObject *method, PyObject *argument);
PyObject *pyhoop_transport_call_with_two(TransportObject *self, PyObject *method, PyObject *first,
                                         PyObject *second);

/* Tells the exception handler of the current exception, with transport and
 * protocol. 0, or -1 with an exception to leave the loop. */
int pyhoop_transport_report(TransportObject *self, const char *message);

/* Reports the current exception as asyncio's _fatal_error and closes the
 * transport. 0, or -1 with an exception to leave the loop. */
int pyhoop_transport_fatal(TransportObject *self, const char *message);

/* Logs `message`, about the transport, in debug mode. 0, or -1 with an exception. */
int pyhoop_transport_log_debug(TransportObject *self, const char *message);

/* Closes at once, dropping what is unsent. `exception` NULL: none. 0, or -1 with
 * RuntimeError set if the loop is closed and nobody will hear of it. */
int pyhoop_transport_force_close(TransportObject *self, PyObject *exception);
int pyhoop_transport_close(TransportObject *self);

/* Schedules connection_lost(exception). As force_close. */
int pyhoop_transport_lose(TransportObject *self, PyObject *exception);

struct pyhoop_transport_rare *pyhoop_transport_rare(TransportObject *self);

/* Takes another protocol. */
int pyhoop_transport_use_protocol(TransportObject *self, PyObject *protocol,
                                  struct pyhoop_state *state);

/* No more events; gives up the loop's reference, so the caller has one. */
void pyhoop_transport_stop_watching(TransportObject *self);

/* Gives up the descriptor; the file object is somebody else's from now on. */
void pyhoop_transport_let_go(TransportObject *self);

/* ---- for each kind of transport ---- */

/* The descriptor of a socket that is to become a transport of an open loop; -1 with an exception. */
int pyhoop_transport_claim(LoopObject *loop, PyObject *socket);

/* As pyhoop_transport_new; `watch_type` has the kind's own on_events and the two below. */
TransportObject *pyhoop_transport_make(PyTypeObject *type,
                                       const struct pyhoop_watch_type *watch_type, LoopObject *loop,
                                       int fd, PyObject *socket, PyObject *protocol,
                                       PyObject *context, PyObject *server, PyObject *waiter);
void pyhoop_transport_forget(struct hoop_watch *watch);
int pyhoop_transport_traverse_watch(struct hoop_watch *watch, visitproc visit, void *arg);

/* Remembers a copy of `extra`, which may be None. */
int pyhoop_transport_give_extra(TransportObject *self, PyObject *extra);

static inline TransportObject *pyhoop_transport_of_watch(struct hoop_watch *watch) {
    return HOOP_CONTAINER_OF(watch, TransportObject, watch);
}

/* transport_type.c */
enum {
    PYHOOP_TRANSPORT_READS = 1,      /* pause_reading, ... */
    PYHOOP_TRANSPORT_WRITES = 2,     /* set_write_buffer_limits, abort, ... */
    PYHOOP_TRANSPORT_HAS_SOCKET = 4, /* get_extra_info, ... */
};

/* Adds the methods and attributes that all kinds have, and those of its `parts`. */
int pyhoop_transport_share(PyTypeObject *type, int parts);

PyObject *pyhoop_transport_close_method(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_can_write_eof(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_get_fd(PyObject *self, void *unused);

/* A kind's traverse and clear end in these; the other slots serve all kinds. */
int pyhoop_transport_traverse(PyObject *self, visitproc visit, void *arg);
int pyhoop_transport_clear(PyObject *self);
void pyhoop_transport_finalize(PyObject *self);
void pyhoop_transport_dealloc(PyObject *self);
PyObject *pyhoop_transport_repr(PyObject *self);

/* transport_info.c */
/* The socket.socket, borrowed: made at the first request, from when on it owns the
 * descriptor. NULL without an exception once that is closed. */
PyObject *pyhoop_transport_socket(TransportObject *self, struct pyhoop_state *state);
PyObject *pyhoop_transport_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *pyhoop_transport_get_extra(PyObject *self, void *unused);
/* Asks what only an open descriptor can tell, for whoever still holds the transport. */
int pyhoop_transport_remember_names(TransportObject *self);

/* transport_read.c */
int pyhoop_transport_read(TransportObject *self);

/* transport_write.c */
PyObject *pyhoop_transport_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_transport_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames);
PyObject *pyhoop_transport_write_eof(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_get_write_buffer_size(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_get_write_buffer_limits(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_set_write_buffer_limits(PyObject *self, PyObject *args,
                                                   PyObject *kwargs);
PyObject *pyhoop_transport_make_empty_waiter(PyObject *self, PyObject *unused);
PyObject *pyhoop_transport_reset_empty_waiter(PyObject *self, PyObject *unused);
int pyhoop_transport_flush_item(struct hoop_flush *flush);
int pyhoop_transport_write_ready(TransportObject *self);
/* Flow control: call it after the queue has grown, or shrunk. */
int pyhoop_transport_maybe_pause(TransportObject *self);
int pyhoop_transport_maybe_resume(TransportObject *self);
/* The connection is gone: asyncio counts, and warns from the fifth write on. */
int pyhoop_transport_write_after_loss(TransportObject *self);
/* Sends what a phase's writes left, unless the kernel refused more already. */
int pyhoop_transport_flush_deferred(TransportObject *self);

#endif
