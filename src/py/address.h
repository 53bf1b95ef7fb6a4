/* SPDX-License-Identifier: MIT
 *
 * address: socket addresses as the tuples and strings Python's socket module makes.
 */
#ifndef HOOP_PY_ADDRESS_H
#define HOOP_PY_ADDRESS_H

#include <sys/socket.h>
#include <sys/un.h>

#include "py/compat.h"

/* (host, port), (host, port, flowinfo, scope_id), or a unix path (str; bytes if
 * abstract). None for a family it does not know or an empty address. */
PyObject *pyhoop_address(const struct sockaddr *address, socklen_t length);

/* A tuple of the objects, whose references it takes over; NULL if one of them is. */
PyObject *pyhoop_tuple_give(PyObject **fields, Py_ssize_t count);

/* Room for any of these. */
union pyhoop_sockaddr {
    struct sockaddr any;
    struct sockaddr_un unix_;
    struct sockaddr_storage storage;
};

/* The way back, for what needs no look-up and cannot change: an exact tuple with a numeric host
 * and an int port [, flowinfo, scope id], or a path as str or bytes. Returns the length, or 0
 * without an exception if it is anything else, which is socket.socket's affair. */
socklen_t pyhoop_sockaddr(int family, PyObject *address, union pyhoop_sockaddr *result);

/* The same for an address of the socket `fd`. */
socklen_t pyhoop_sockaddr_of(int fd, PyObject *address, union pyhoop_sockaddr *result);

#endif
