/* SPDX-License-Identifier: MIT
 *
 * operation: what loop.sock_recv() and its like return: an awaitable that behaves
 * as the coroutine asyncio has there, without a frame.
 *
 * Layer: py, over readers. The kinds of operations are in sock_*.c; this is
 *   what they share: laziness (nothing happens before the first send()),
 *   waiting, cancelling, being closed, the warning of one never awaited.
 * Owns: the arguments, and the buffer that is being sent, until it is over.
 * Order: an operation is tried at once; if the kernel says EAGAIN it waits for
 *   a future that is done when the descriptor is ready, and tries again when its
 *   task runs. So nothing is received, sent or accepted for a task that was
 *   cancelled meanwhile.
 * What is unusual is asyncio's: an operation hands on to the inherited
 *   coroutine (PYHOOP_INHERITED) whatever it doesn't know: other classes of
 *   sockets, host names, wrong arguments.
 */
#ifndef HOOP_PY_OPERATION_H
#define HOOP_PY_OPERATION_H

#include <stdint.h>

#include "py/awaitable.h"
#include "py/readers.h"

enum { PYHOOP_OPERATION_ARGS = 4 };

enum pyhoop_outcome {
    PYHOOP_FAILED,    /* an exception is set */
    PYHOOP_DONE,      /* *result is */
    PYHOOP_WAIT,      /* EAGAIN */
    PYHOOP_TURN,      /* not done, nor refused: others get their turn */
    PYHOOP_INHERITED, /* nothing has been done: asyncio's coroutine does it */
    PYHOOP_HANDED_ON, /* `inner` does the rest */
};

typedef struct OperationObject OperationObject;

struct pyhoop_operation_kind {
    const char *name; /* of the method */
    int min_args;     /* the socket, which is the first, included */
    int max_args;
    enum pyhoop_direction direction;
    bool could_block; /* its call would block on a blocking socket, which is asyncio's then */
    enum pyhoop_outcome (*attempt)(OperationObject *self, int fd, PyObject **result);
    int (*end)(OperationObject *self); /* or NULL; may set an exception and return -1 */
};

struct OperationObject {
    PyObject_HEAD
    const struct pyhoop_operation_kind *kind;
    LoopObject *loop;
    PyObject *inherited; /* asyncio's coroutine function */
    PyObject *args[PYHOOP_OPERATION_ARGS];
    int arg_count;
    enum pyhoop_await_state state;
    struct pyhoop_waiter waiter;
    PyObject *future; /* while it waits */
    PyObject *inner;  /* the coroutine that does it instead */
    PyObject *weakrefs;
    int64_t done; /* bytes that went out; of a connect: whether it was begun */
    union {
        Py_buffer buffer; /* sock_sendall; obj NULL: none */
        struct {
            int64_t offset, count; /* where the file is read; 0: all of it */
            int descriptor;
            bool is_open; /* the fields are set */
        } file;
    };
};

extern PyType_Spec pyhoop_operation_spec;

extern const struct pyhoop_operation_kind pyhoop_sock_accept;
extern const struct pyhoop_operation_kind pyhoop_sock_connect;
extern const struct pyhoop_operation_kind pyhoop_sock_recv;
extern const struct pyhoop_operation_kind pyhoop_sock_recv_into;
extern const struct pyhoop_operation_kind pyhoop_sock_recvfrom;
extern const struct pyhoop_operation_kind pyhoop_sock_recvfrom_into;
extern const struct pyhoop_operation_kind pyhoop_sock_sendall;
extern const struct pyhoop_operation_kind pyhoop_sock_sendfile;
extern const struct pyhoop_operation_kind pyhoop_sock_sendto;

/* `args`: what the method was called with, `kind` allows their count. */
PyObject *pyhoop_operation_new(const struct pyhoop_operation_kind *kind, LoopObject *loop,
                               PyObject *inherited, PyObject *const *args, Py_ssize_t arg_count);

/* The outcome of a system call that said no: PYHOOP_WAIT for -EAGAIN, else an OSError. */
enum pyhoop_outcome pyhoop_operation_refused(ssize_t rc);

#endif
