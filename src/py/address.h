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

/* A tuple of the objects, whose references it takes over; NULL if one of them is. */
PyObject *pyhoop_tuple_give(PyObject **fields, Py_ssize_t count);

#endif
