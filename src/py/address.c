/* SPDX-License-Identifier: MIT */
#include "py/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

PyObject *pyhoop_tuple_give(PyObject **fields, Py_ssize_t count) {
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (tuple != NULL && fields[i] == NULL)
            Py_CLEAR(tuple);
        if (tuple == NULL)
            Py_XDECREF(fields[i]);
        else
            PyTuple_SET_ITEM(tuple, i, fields[i]);
    }
    return tuple;
}

static PyObject *inet_address(const struct sockaddr_in *address) {
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host)) == NULL)
        Py_RETURN_NONE;
    PyObject *fields[] = {PyUnicode_FromString(host), PyLong_FromLong(ntohs(address->sin_port))};
    return pyhoop_tuple_give(fields, 2);
}

/* Python takes the host from getnameinfo, which writes the zone of a link-local
 * address behind it; the scope stands in the tuple all the same. */
static PyObject *inet6_address(const struct sockaddr_in6 *address) {
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host)) == NULL)
        Py_RETURN_NONE;
    PyObject *fields[] = {
        PyUnicode_FromString(host),
        PyLong_FromLong(ntohs(address->sin6_port)),
        PyLong_FromUnsignedLong(ntohl(address->sin6_flowinfo)),
        PyLong_FromUnsignedLong(address->sin6_scope_id),
    };
    return pyhoop_tuple_give(fields, 4);
}

static PyObject *unix_address(const struct sockaddr_un *address, socklen_t length) {
    size_t header = offsetof(struct sockaddr_un, sun_path);
    if (length <= header)
        return PyUnicode_FromString("");
    size_t size = length - header;
    if (address->sun_path[0] == '\0')
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)size);
    size = strnlen(address->sun_path, size);
    return PyUnicode_DecodeFSDefaultAndSize(address->sun_path, (Py_ssize_t)size);
}

PyObject *pyhoop_address(const struct sockaddr *address, socklen_t length) {
    if (length < sizeof(sa_family_t))
        Py_RETURN_NONE;
    switch (address->sa_family) {
    case AF_INET:
        return inet_address((const struct sockaddr_in *)(const void *)address);
    case AF_INET6:
        return inet6_address((const struct sockaddr_in6 *)(const void *)address);
    case AF_UNIX:
        return unix_address((const struct sockaddr_un *)(const void *)address, length);
    default:
        Py_RETURN_NONE;
    }
}
