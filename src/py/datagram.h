/* SPDX-License-Identifier: MIT
 *
 * datagram: a socket for datagrams, UDP or unix, and its protocol.
 *
 * Begins with a stream's TransportObject and shares with it what has no stream in
 * it (transport.h). datagram.c has the type, making and what comes in,
 * datagram_send.c what goes out.
 *
 * Layer: py, over transport. asyncio: selector_events._SelectorDatagramTransport.
 * Owns: what a transport owns; datagrams the kernel refused, as (bytes, address)
 *   pairs in `out`; the addresses last received from and sent to.
 * Errors: an OSError of a call goes to error_received and the transport lives on;
 *   what that or datagram_received raises goes to the exception handler, or to the
 *   caller of sendto. Any other error of a call is fatal, as in asyncio.
 * Order: what is ready is received and sent from the ready queue, behind the
 *   callbacks that wait there already, as in asyncio: a protocol that is not
 *   prepared yet would lose a datagram. One goes out at once, or behind those
 *   that are queued.
 * Sockets: families whose addresses hoop does not know, and sockets of classes
 *   derived from socket.socket, are received and sent through their own methods
 *   (flag is_foreign), and so is a datagram whose address needs a look-up.
 * Cost: a readiness takes one datagram; more, bounded, when there were several at
 *   once lately (expects_more), for the call that finds none costs as much as one
 *   that finds some.
 * Invariants: 1. `out` is empty, or BLOCKED is set.
 *             2. a peer's address is an exact tuple, str or bytes that cannot change.
 */
#ifndef HOOP_PY_DATAGRAM_H
#define HOOP_PY_DATAGRAM_H

#include "py/address.h"
#include "py/transport.h"

/* An address in both forms; `address` NULL: none yet. */
struct pyhoop_peer {
    PyObject *address;
    union pyhoop_sockaddr sockaddr;
    socklen_t length;
};

typedef struct {
    TransportObject base;
    PyObject *address; /* where everything goes, asyncio's _address; NULL: to whom sendto says */
    struct pyhoop_peer from;
    struct pyhoop_peer to;
    Py_ssize_t max_size;   /* of a datagram received; longer ones are cut off */
    struct hoop_item turn; /* receives and sends what is ready */
    uint32_t ready;        /* events of that turn; 0: not queued */
    int family;
    bool is_foreign;
    bool is_connected;     /* to a peer with an address: sendto's counts for nothing */
    bool has_unnamed_peer; /* one end of a socket pair */
    bool expects_more;
    uint8_t lone_rounds; /* in a row */
} DatagramObject;

extern PyType_Spec pyhoop_datagram_transport_spec;

/* loop._make_datagram_transport(sock, protocol, address=None, waiter=None, extra=None) */
PyObject *pyhoop_loop_make_datagram_transport(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- between its two files ---- */

/* Gives the current exception to error_received. 0, or -1 with what that raised. */
int pyhoop_datagram_error_received(DatagramObject *self);

/* Whether the current exception says "not now", as non-blocking sockets do; clears it then. */
bool pyhoop_datagram_would_block(void);

/* datagram_send.c */
PyObject *pyhoop_datagram_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
int pyhoop_datagram_send_ready(DatagramObject *self);

#endif
