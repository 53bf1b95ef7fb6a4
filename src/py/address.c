/* SPDX-License-Identifier: MIT */
#include "py/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "core/sys.h"

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

/* ---- from Python's ---- */

/* A number up to `limit`; false for anything else. */
static bool parse_number(PyObject *object, unsigned long limit, uint32_t *number) {
    if (!PyLong_CheckExact(object))
        return false;
    unsigned long value = PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred()) {
        PyErr_Clear(); /* OverflowError */
        return false;
    }
    *number = (uint32_t)value;
    return value <= limit;
}

/* `in`: where inet_pton writes. */
static bool parse_host_and_port(PyObject *tuple, int family, void *in, in_port_t *port) {
    uint32_t number;
    PyObject *host = PyTuple_GET_ITEM(tuple, 0);
    const char *text = PyUnicode_CheckExact(host) ? PyUnicode_AsUTF8(host) : NULL;
    if (text == NULL) {
        PyErr_Clear(); /* UnicodeEncodeError: a lone surrogate */
        return false;
    }
    if (!parse_number(PyTuple_GET_ITEM(tuple, 1), UINT16_MAX, &number))
        return false;
    *port = htons((uint16_t)number);
    return inet_pton(family, text, in) == 1;
}

static socklen_t parse_inet(PyObject *tuple, struct sockaddr_in *address) {
    if (!PyTuple_CheckExact(tuple) || PyTuple_GET_SIZE(tuple) != 2)
        return 0;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    if (!parse_host_and_port(tuple, AF_INET, &address->sin_addr, &address->sin_port))
        return 0;
    return sizeof(*address);
}

static socklen_t parse_inet6(PyObject *tuple, struct sockaddr_in6 *address) {
    Py_ssize_t size = PyTuple_CheckExact(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
    uint32_t flow = 0, scope = 0;
    if (size < 2 || size > 4)
        return 0;
    *address = (struct sockaddr_in6){.sin6_family = AF_INET6};
    if (!parse_host_and_port(tuple, AF_INET6, &address->sin6_addr, &address->sin6_port) ||
        (size > 2 && !parse_number(PyTuple_GET_ITEM(tuple, 2), 0xfffff, &flow)) ||
        (size > 3 && !parse_number(PyTuple_GET_ITEM(tuple, 3), UINT32_MAX, &scope)))
        return 0;
    address->sin6_flowinfo = htonl(flow);
    address->sin6_scope_id = scope;
    return sizeof(*address);
}

/* An abstract name begins with a zero and is as long as it is; a path ends with one. */
static socklen_t parse_unix(PyObject *path, struct sockaddr_un *address) {
    PyObject *bytes = PyBytes_CheckExact(path)     ? Py_NewRef(path)
                      : PyUnicode_CheckExact(path) ? PyUnicode_EncodeFSDefault(path)
                                                   : NULL;
    if (bytes == NULL) {
        PyErr_Clear(); /* UnicodeEncodeError */
        return 0;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    bool is_abstract = size > 0 && PyBytes_AS_STRING(bytes)[0] == '\0';
    size_t limit = sizeof(address->sun_path) - (is_abstract ? 0 : 1);
    socklen_t length = 0;
    if (size > 0 && size <= limit) {
        *address = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(address->sun_path, PyBytes_AS_STRING(bytes), size);
        length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + !is_abstract);
    }
    Py_DECREF(bytes);
    return length;
}

socklen_t pyhoop_address_parse(int fd, PyObject *object, struct sockaddr_storage *address) {
    int family = AF_UNSPEC;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    switch (family) {
    case AF_INET:
        return parse_inet(object, (struct sockaddr_in *)address);
    case AF_INET6:
        return parse_inet6(object, (struct sockaddr_in6 *)address);
    case AF_UNIX:
        return parse_unix(object, (struct sockaddr_un *)address);
    default:
        return 0;
    }
}
