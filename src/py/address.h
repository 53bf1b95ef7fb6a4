/* SPDX-License-Identifier: MIT
 *
 * address: socket addresses as the tuples and strings Python's socket module makes.
 */
#ifndef HOOP_PY_ADDRESS_H
#define HOOP_PY_ADDRESS_H

#include <sys/socket.h>

#include "py/compat.h"

/* (host, port), (host, port, flowinfo, scope_id), or a unix path (str; bytes if
 * abstract). None for a family it does not know or an empty address. */
PyObject *pyhoop_address(const struct sockaddr *address, socklen_t length);

/* Python's address for the socket `fd`, as the kernel wants it: the length, or 0 if it is not a
 * plain one (a numeric host, a unix path that is not empty). No exception is set. */
socklen_t pyhoop_address_parse(int fd, PyObject *object, struct sockaddr_storage *address);

#endif
