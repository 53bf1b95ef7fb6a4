/* SPDX-License-Identifier: MIT */
#include "py/resolve.h"

#include <limits.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "py/address.h"

enum {
    LONGEST_LABEL = 63, /* a longer host is an error of Python's idna codec */
    KNOWN_FLAGS = AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_NUMERICSERV | AI_V4MAPPED |
        AI_ALL | AI_ADDRCONFIG,
};

/* The text of an exact str or bytes if it is ASCII and has no zero byte, or NULL. */
static const char *ascii_of(PyObject *object, size_t *size) {
    const char *text = NULL;
    if (PyUnicode_CheckExact(object) && PyUnicode_IS_COMPACT_ASCII(object)) {
        text = (const char *)PyUnicode_1BYTE_DATA(object);
        *size = (size_t)PyUnicode_GET_LENGTH(object);
    } else if (PyBytes_CheckExact(object)) {
        text = PyBytes_AS_STRING(object);
        *size = (size_t)PyBytes_GET_SIZE(object);
    }
    return text != NULL && strlen(text) == *size ? text : NULL;
}

/* False: not a host that could be numeric. `*host` NULL: none was given. */
static bool host_of(PyObject *object, const char **host) {
    size_t size = 0;
    *host = NULL;
    if (object == Py_None)
        return true;
    *host = ascii_of(object, &size);
    return *host != NULL && size > 0 && size <= LONGEST_LABEL;
}

static bool port_of(PyObject *object, char *buffer, size_t capacity, const char **port) {
    size_t size;
    *port = NULL;
    if (object == Py_None)
        return true;
    if (!PyLong_CheckExact(object)) {
        *port = ascii_of(object, &size);
        return *port != NULL;
    }
    int overflow;
    long number = PyLong_AsLongAndOverflow(object, &overflow);
    snprintf(buffer, capacity, "%ld", number);
    *port = buffer;
    return overflow == 0;
}

static bool int_of(PyObject *object, int *value) {
    if (!PyLong_Check(object))
        return false;
    int overflow;
    long number = PyLong_AsLongAndOverflow(object, &overflow);
    *value = (int)number;
    return overflow == 0 && number >= INT_MIN && number <= INT_MAX;
}

/* family, type, proto, flags */
static bool hints_of(PyObject *const *args, struct addrinfo *hints) {
    *hints = (struct addrinfo){0};
    return int_of(args[0], &hints->ai_family) && int_of(args[1], &hints->ai_socktype) &&
           int_of(args[2], &hints->ai_protocol) && int_of(args[3], &hints->ai_flags) &&
           (hints->ai_flags & ~KNOWN_FLAGS) == 0;
}

/* The member of the enumeration, or the number itself. */
static PyObject *named(PyObject *members, int value) {
    PyObject *number = PyLong_FromLong(value);
    PyObject *member = NULL;
    if (number != NULL && PyDict_GetItemRef(members, number, &member) != 0) {
        Py_DECREF(number);
        return member;
    }
    return number;
}

static PyObject *entry_of(struct pyhoop_state *state, const struct addrinfo *info) {
    PyObject *fields[] = {
        named(state->cold_address_families, info->ai_family),
        named(state->cold_socket_kinds, info->ai_socktype),
        PyLong_FromLong(info->ai_protocol),
        PyUnicode_FromString(info->ai_canonname != NULL ? info->ai_canonname : ""),
        pyhoop_address(info->ai_addr, info->ai_addrlen),
    };
    return pyhoop_tuple_give(fields, 5);
}

static PyObject *list_of(struct pyhoop_state *state, const struct addrinfo *first) {
    PyObject *list = PyList_New(0);
    for (const struct addrinfo *info = first; list != NULL && info != NULL; info = info->ai_next) {
        PyObject *entry = entry_of(state, info);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

/* Whether socket.getaddrinfo is the standard library's: tests and tools replace it. -1 on error. */
static int is_original(struct pyhoop_state *state) {
    PyObject *now = PyObject_GetAttr(state->socket_module, state->str_getaddrinfo);
    Py_XDECREF(now);
    return now == NULL ? -1 : now == state->socket_getaddrinfo;
}

PyObject *pyhoop_loop_numeric_addrinfo(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    LoopObject *self = (LoopObject *)op;
    const char *host, *port;
    char digits[24];
    struct addrinfo hints, *found;
    if (nargs != 6) {
        PyErr_SetString(PyExc_TypeError, "_numeric_addrinfo() takes six arguments");
        return NULL;
    }
    if (self->is_debug || self->is_closed || !host_of(args[0], &host) ||
        !port_of(args[1], digits, sizeof(digits), &port) || !hints_of(args + 2, &hints))
        Py_RETURN_NONE;
    int original = is_original(self->state);
    if (original <= 0)
        return original < 0 ? NULL : Py_NewRef(Py_None);
    hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        Py_RETURN_NONE;
    PyObject *list = NULL;
    if (PySys_Audit("socket.getaddrinfo", "OOiii", args[0], args[1], hints.ai_family,
                    hints.ai_socktype, hints.ai_protocol) == 0)
        list = list_of(self->state, found);
    freeaddrinfo(found);
    return list;
}
