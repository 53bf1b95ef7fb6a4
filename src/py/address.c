/* SPDX-License-Identifier: MIT */
#include "py/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"

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

/* The number in decimal digits; the end of what was written. */
static char *write_octet(char *text, unsigned int octet) {
    if (octet >= 100)
        *text++ = (char)('0' + octet / 100);
    if (octet >= 10)
        *text++ = (char)('0' + octet / 10 % 10);
    *text++ = (char)('0' + octet % 10);
    return text;
}

/* By hand: every datagram has one, and inet_ntop goes through a printf. */
static PyObject *inet_address(const struct sockaddr_in *address) {
    char host[INET_ADDRSTRLEN], *end = host;
    uint32_t number = ntohl(address->sin_addr.s_addr);
    for (int shift = 24; shift >= 0; shift -= 8) {
        end = write_octet(end, number >> shift & 0xff);
        *end++ = '.';
    }
    PyObject *fields[] = {PyUnicode_FromStringAndSize(host, end - host - 1),
                          PyLong_FromLong(ntohs(address->sin_port))};
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

/* A whole number in 0..limit, or -1. */
static long long number_in(PyObject *tuple, Py_ssize_t index, long long limit) {
    PyObject *object = PyTuple_GET_ITEM(tuple, index);
    int overflow;
    if (!PyLong_CheckExact(object))
        return -1;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    return overflow != 0 || value > limit ? -1 : value;
}

/* Host and port of a tuple of exact objects; false if a look-up is needed. */
static bool parse_host(int family, PyObject *tuple, void *host, in_port_t *port) {
    if (!PyTuple_CheckExact(tuple) || PyTuple_GET_SIZE(tuple) < 2)
        return false;
    PyObject *text = PyTuple_GET_ITEM(tuple, 0);
    long long number = number_in(tuple, 1, UINT16_MAX);
    if (number < 0 || !PyUnicode_CheckExact(text) || !PyUnicode_IS_ASCII(text))
        return false;
    const char *chars = (const char *)PyUnicode_1BYTE_DATA(text);
    if (strlen(chars) != (size_t)PyUnicode_GET_LENGTH(text) || inet_pton(family, chars, host) != 1)
        return false;
    *port = htons((uint16_t)number);
    return true;
}

static socklen_t inet_sockaddr(PyObject *tuple, struct sockaddr_in *result) {
    *result = (struct sockaddr_in){.sin_family = AF_INET};
    if (!parse_host(AF_INET, tuple, &result->sin_addr, &result->sin_port) ||
        PyTuple_GET_SIZE(tuple) != 2)
        return 0;
    return sizeof(*result);
}

static socklen_t inet6_sockaddr(PyObject *tuple, struct sockaddr_in6 *result) {
    const long long max_flow = 0xfffff;
    *result = (struct sockaddr_in6){.sin6_family = AF_INET6};
    if (!parse_host(AF_INET6, tuple, &result->sin6_addr, &result->sin6_port))
        return 0;
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    long long flow = size > 2 ? number_in(tuple, 2, max_flow) : 0;
    long long scope = size > 3 ? number_in(tuple, 3, UINT32_MAX) : 0;
    if (size > 4 || flow < 0 || scope < 0)
        return 0;
    result->sin6_flowinfo = htonl((uint32_t)flow);
    result->sin6_scope_id = (uint32_t)scope;
    return sizeof(*result);
}

static socklen_t unix_sockaddr(PyObject *path, struct sockaddr_un *result) {
    PyObject *bytes = PyUnicode_CheckExact(path) ? PyUnicode_EncodeFSDefault(path)
                      : PyBytes_CheckExact(path) ? Py_NewRef(path)
                                                 : NULL;
    if (bytes == NULL) {
        PyErr_Clear(); /* UnicodeEncodeError: raised again by who handles the rest */
        return 0;
    }
    const char *chars = PyBytes_AS_STRING(bytes);
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    bool is_abstract = size > 0 && chars[0] == '\0';
    bool fits = is_abstract ? size <= sizeof(result->sun_path)
                            : size > 0 && size < sizeof(result->sun_path) && strlen(chars) == size;
    *result = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (fits)
        memcpy(result->sun_path, chars, size);
    Py_DECREF(bytes);
    size_t length = offsetof(struct sockaddr_un, sun_path) + size + (is_abstract ? 0 : 1);
    return fits ? (socklen_t)length : 0;
}

socklen_t pyhoop_sockaddr(int family, PyObject *address, union pyhoop_sockaddr *result) {
    switch (family) {
    case AF_INET:
        return inet_sockaddr(address, (struct sockaddr_in *)(void *)result);
    case AF_INET6:
        return inet6_sockaddr(address, (struct sockaddr_in6 *)(void *)result);
    case AF_UNIX:
        return unix_sockaddr(address, &result->unix_);
    default:
        return 0;
    }
}

socklen_t pyhoop_sockaddr_of(int fd, PyObject *address, union pyhoop_sockaddr *result) {
    int family = AF_UNSPEC;
    (void)hoop_sys_socket_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    return pyhoop_sockaddr(family, address, result);
}
