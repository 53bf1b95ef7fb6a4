/* SPDX-License-Identifier: MIT
 *
 * resolve: the addresses of a numeric host, without a thread.
 *
 * Layer: py, beside the loop. asyncio: the part of loop.getaddrinfo that need not ask anybody.
 * Threads: the loop's, holding the GIL: the C library is told to look nothing up
 *   (AI_NUMERICHOST, AI_NUMERICSERV), and its answer is by construction the one that
 *   socket.getaddrinfo gives.
 */
#ifndef HOOP_PY_RESOLVE_H
#define HOOP_PY_RESOLVE_H

#include "py/loop.h"

/* loop._numeric_addrinfo(host, port, family, type, proto, flags): what socket.getaddrinfo()
 * returns, or None: then that has to be called, on another thread. */
PyObject *pyhoop_loop_numeric_addrinfo(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

#endif
