/* SPDX-License-Identifier: MIT */
#include "core/sys.h"
#include "py/address.h"
#include "py/transport.h"

PyObject *pyhoop_transport_socket(TransportObject *self, struct pyhoop_state *state) {
    if (self->socket != NULL || self->fd < 0)
        return self->socket;
    int family = AF_INET, type = SOCK_STREAM, protocol = 0;
    (void)hoop_sys_socket_option(self->fd, SOL_SOCKET, SO_DOMAIN, &family);
    (void)hoop_sys_socket_option(self->fd, SOL_SOCKET, SO_TYPE, &type);
    (void)hoop_sys_socket_option(self->fd, SOL_SOCKET, SO_PROTOCOL, &protocol);
    self->socket =
        PyObject_CallFunction(state->socket_class, "iiii", family, type, protocol, self->fd);
    if (self->socket == NULL)
        return NULL;
    PyObject *timeout = PyObject_CallMethod(self->socket, "setblocking", "i", 0);
    Py_XDECREF(timeout);
    return timeout == NULL ? NULL : self->socket;
}

/* A closed socket object, for who asks only after the descriptor is gone. */
static PyObject *closed_socket(struct pyhoop_state *state) {
    PyObject *socket = PyObject_CallNoArgs(state->socket_class);
    PyObject *result = socket == NULL ? NULL : PyObject_CallMethodNoArgs(socket, state->str_close);
    if (result == NULL)
        Py_CLEAR(socket);
    Py_XDECREF(result);
    return socket;
}

static PyObject *socket_info(TransportObject *self, struct pyhoop_state *state) {
    PyObject *socket = Py_XNewRef(pyhoop_transport_socket(self, state));
    if (socket == NULL && !PyErr_Occurred())
        socket = closed_socket(state);
    if (socket == NULL)
        return NULL;
    PyObject *info = PyObject_CallOneArg(state->asyncio_transport_socket, socket);
    Py_DECREF(socket);
    return info;
}

static PyObject *sockname_info(TransportObject *self) {
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (self->rare != NULL && self->rare->name_length > 0)
        return pyhoop_address((struct sockaddr *)&self->rare->name, self->rare->name_length);
    if (self->fd < 0 || hoop_sys_socket_name(self->fd, (struct sockaddr *)&address, &length) < 0)
        Py_RETURN_NONE;
    return pyhoop_address((struct sockaddr *)&address, length);
}

static PyObject *peername_info(TransportObject *self) {
    if (self->peer_length > 0)
        return pyhoop_address((struct sockaddr *)&self->peer, self->peer_length);
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (self->fd < 0 || hoop_sys_peer_name(self->fd, (struct sockaddr *)&address, &length) < 0)
        Py_RETURN_NONE;
    return pyhoop_address((struct sockaddr *)&address, length);
}

/* A value made now is kept: it stays known after the descriptor is closed. */
static PyObject *made_info(TransportObject *self, PyObject *name, struct pyhoop_state *state) {
    PyObject *value;
    if (PyUnicode_Compare(name, state->str_socket) == 0)
        value = socket_info(self, state);
    else if (PyUnicode_Compare(name, state->str_peername) == 0)
        value = peername_info(self);
    else if (PyUnicode_Compare(name, state->str_sockname) == 0)
        value = sockname_info(self);
    else
        return NULL;
    if (value == NULL)
        return NULL;
    if (self->extra == NULL)
        self->extra = PyDict_New();
    if (self->extra == NULL || PyDict_SetItem(self->extra, name, value) < 0)
        Py_CLEAR(value);
    return value;
}

static PyObject *get_info(TransportObject *self, PyObject *name, PyObject *missing) {
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state == NULL)
        return NULL;
    if (self->extra != NULL && PyDict_Check(self->extra)) {
        PyObject *value = PyDict_GetItemWithError(self->extra, name);
        if (value != NULL || PyErr_Occurred())
            return Py_XNewRef(value);
    }
    PyObject *value = PyUnicode_Check(name) ? made_info(self, name, state) : NULL;
    if (value != NULL || PyErr_Occurred())
        return value;
    return Py_NewRef(missing);
}

PyObject *pyhoop_transport_get_extra_info(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"name", "default", NULL};
    PyObject *name, *missing = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name, &missing))
        return NULL;
    return get_info((TransportObject *)op, name, missing);
}

int pyhoop_transport_remember_names(TransportObject *self) {
    struct pyhoop_state *state = self->loop->state;
    struct pyhoop_transport_rare *rare = pyhoop_transport_rare(self);
    if (rare == NULL)
        return -1;
    socklen_t length = sizeof(rare->name);
    bool is_short = hoop_sys_socket_name(self->fd, (struct sockaddr *)&rare->name, &length) == 0 &&
                    length <= sizeof(rare->name);
    rare->name_length = is_short ? length : 0;
    PyObject *names[] = {is_short ? NULL : state->str_sockname,
                         self->peer_length > 0 ? NULL : state->str_peername};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = names[i] == NULL ? Py_NewRef(Py_None) : get_info(self, names[i], Py_None);
        if (value == NULL)
            return -1;
        Py_DECREF(value);
    }
    return 0;
}

PyObject *pyhoop_transport_get_extra(PyObject *op, void *unused) {
    (void)unused;
    TransportObject *self = (TransportObject *)op;
    struct pyhoop_state *state = PyType_GetModuleState(Py_TYPE(op));
    if (state == NULL)
        return NULL;
    PyObject *names[] = {state->str_socket, state->str_sockname, state->str_peername};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = get_info(self, names[i], Py_None);
        if (value == NULL)
            return NULL;
        Py_DECREF(value);
    }
    return Py_NewRef(self->extra);
}
