/* SPDX-License-Identifier: MIT
 *
 * listener: accepts connections on a listening socket and makes transports of them.
 *
 * Layer: py, over transport. asyncio: BaseSelectorEventLoop._start_serving and
 *   _accept_connection; TLS connections go on to asyncio's coroutine.
 * Owns: itself while it listens (the loop's table counts as a reference), the
 *   protocol factory, the server. Not the descriptor: the socket object closes it.
 * Errors: out of descriptors or memory is reported once an episode, then tried
 *   again every PYHOOP_ACCEPT_RETRY_NS until the queue has been emptied.
 * Cost: at most PYHOOP_ACCEPTS_PER_ROUND connections a round.
 */
#ifndef HOOP_PY_LISTENER_H
#define HOOP_PY_LISTENER_H

#include <stdbool.h>

#include "py/loop.h"

enum { PYHOOP_ACCEPTS_PER_ROUND = 64, PYHOOP_ACCEPT_RETRY_NS = 100000000 };

extern PyType_Spec pyhoop_listener_spec;

/* loop._start_serving(protocol_factory, sock, sslcontext=None, server=None, backlog=100,
 *                     ssl_handshake_timeout=..., ssl_shutdown_timeout=..., context=None) */
PyObject *pyhoop_loop_start_serving(PyObject *self, PyObject *args, PyObject *kwargs);

/* Ends the listening on `fd`; false if none does. */
bool pyhoop_listener_stop_fd(LoopObject *loop, int fd);

#endif
