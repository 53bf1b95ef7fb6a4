/* SPDX-License-Identifier: MIT */
#include "py/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

static PyObject *inet_address(const struct sockaddr_in *address) {
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host)) == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(si)", host, (int)ntohs(address->sin_port));
}

/* Python takes the host from getnameinfo, which writes the zone of a link-local
 * address behind it; the scope stands in the tuple all the same. */
static PyObject *inet6_address(const struct sockaddr_in6 *address) {
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host)) == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(siII)", host, (int)ntohs(address->sin6_port),
                         (unsigned int)ntohl(address->sin6_flowinfo),
                         (unsigned int)address->sin6_scope_id);
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
