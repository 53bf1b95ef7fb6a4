/* SPDX-License-Identifier: MIT */
#include "py/readers.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "py/listener.h"
#include "py/transport.h"

enum direction { READER, WRITER, DIRECTIONS };

static const uint32_t poll_event_of[DIRECTIONS] = {HOOP_POLL_READ, HOOP_POLL_WRITE};

struct pyhoop_reader {
    struct hoop_watch watch;
    LoopObject *loop;
    HandleObject *handles[DIRECTIONS];
};

static int on_events(struct hoop_watch *watch, uint32_t events);
static void forget(struct hoop_watch *watch);
static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg);

static const struct pyhoop_watch_type watch_type = {{on_events, forget}, watch_traverse};

static struct pyhoop_reader *reader_of(struct hoop_watch *watch) {
    return HOOP_CONTAINER_OF(watch, struct pyhoop_reader, watch);
}

static struct pyhoop_reader *find(LoopObject *loop, int fd) {
    struct hoop_watch *watch = hoop_watches_find(&loop->core.watches, fd);
    return watch != NULL && watch->type == &watch_type.core ? reader_of(watch) : NULL;
}

static struct pyhoop_reader *new_reader(LoopObject *loop, int fd) {
    struct pyhoop_reader *reader = PyMem_Calloc(1, sizeof(*reader));
    if (reader == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    hoop_watch_init(&reader->watch, &watch_type.core);
    int rc = hoop_watches_start(&loop->core.watches, &reader->watch, fd, 0);
    if (rc < 0) {
        PyMem_Free(reader);
        pyhoop_raise_errno(rc);
        return NULL;
    }
    reader->loop = loop;
    return reader;
}

static void retire(HandleObject *handle) {
    if (handle == NULL)
        return;
    if (pyhoop_handle_cancel(handle) < 0)
        PyErr_WriteUnraisable((PyObject *)handle);
    Py_DECREF(handle);
}

static void free_reader(struct pyhoop_reader *reader) {
    hoop_watches_stop(&reader->loop->core.watches, &reader->watch);
    HandleObject *handles[DIRECTIONS] = {reader->handles[READER], reader->handles[WRITER]};
    PyMem_Free(reader);
    retire(handles[READER]);
    retire(handles[WRITER]);
}

static void forget(struct hoop_watch *watch) {
    free_reader(reader_of(watch));
}

static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg) {
    for (int i = 0; i < DIRECTIONS; i++)
        Py_VISIT(reader_of(watch)->handles[i]);
    return 0;
}

static uint32_t wanted_by(const struct pyhoop_reader *reader) {
    uint32_t wanted = 0;
    for (int i = 0; i < DIRECTIONS; i++) {
        if (reader->handles[i] != NULL)
            wanted |= poll_event_of[i];
    }
    return wanted;
}

/* Removes one direction; true if there was one. */
static bool remove_direction(LoopObject *loop, int fd, enum direction direction) {
    struct pyhoop_reader *reader = find(loop, fd);
    if (reader == NULL || reader->handles[direction] == NULL)
        return false;
    HandleObject *handle = reader->handles[direction];
    reader->handles[direction] = NULL;
    if (wanted_by(reader) == 0)
        free_reader(reader);
    else
        (void)hoop_watches_want(&loop->core.watches, &reader->watch, wanted_by(reader));
    retire(handle);
    return true;
}

static int queue_handle(LoopObject *loop, HandleObject *handle) {
    Py_INCREF(handle);
    if (hoop_loop_give(&loop->core, &handle->timer.item) < 0)
        Py_DECREF(handle); /* no memory: the descriptor is still ready next time */
    return 0;
}

static int on_events(struct hoop_watch *watch, uint32_t events) {
    struct pyhoop_reader *reader = reader_of(watch);
    LoopObject *loop = reader->loop;
    int fd = watch->fd;
    for (int i = 0; i < DIRECTIONS; i++) {
        HandleObject *handle = reader->handles[i];
        if (!(events & poll_event_of[i]) || handle == NULL)
            continue;
        if (handle->flags & PYHOOP_HANDLE_CANCELLED) {
            remove_direction(loop, fd, (enum direction)i);
            reader = find(loop, fd);
            if (reader == NULL)
                return 0;
        } else {
            queue_handle(loop, handle);
        }
    }
    return 0;
}

/* ---- the methods ---- */

static PyObject *number_of(struct pyhoop_state *state, PyObject *file) {
    if (PyLong_Check(file))
        return Py_NewRef(file);
    PyObject *fileno = PyObject_CallMethodNoArgs(file, state->str_fileno);
    PyObject *number = fileno == NULL ? NULL : PyNumber_Long(fileno);
    Py_XDECREF(fileno);
    return number;
}

int pyhoop_fd_of(struct pyhoop_state *state, PyObject *file) {
    PyObject *number = number_of(state, file);
    if (number == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError) ||
            PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
        return -1;
    }
    int overflow;
    long fd = PyLong_AsLongAndOverflow(number, &overflow);
    if (overflow != 0 || fd < 0 || fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
        fd = -1;
    }
    Py_DECREF(number);
    return (int)fd;
}

/* asyncio checks with the object as it was given, and names it so. */
static int check_no_transport(LoopObject *self, PyObject *file, int fd) {
    TransportObject *transport = pyhoop_transport_of_fd(self, fd);
    if (transport == NULL || pyhoop_transport_is_closing(transport))
        return 0;
    PyErr_Format(PyExc_RuntimeError, "File descriptor %R is used by transport %R", file,
                 (PyObject *)transport);
    return -1;
}

static PyObject *context_of(struct pyhoop_state *state, PyObject *const *values, PyObject *kwnames,
                            bool *is_bad) {
    *is_bad = false;
    if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)
        return NULL;
    if (PyTuple_GET_SIZE(kwnames) == 1 &&
        PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), state->str_context) == 0)
        return values[0] == Py_None ? NULL : values[0];
    PyErr_Format(PyExc_TypeError, "unexpected keyword argument '%U'", PyTuple_GET_ITEM(kwnames, 0));
    *is_bad = true;
    return NULL;
}

/* (fd, callback, *args, context=None). Returns the handle, borrowed from its reader. */
static HandleObject *add(LoopObject *self, enum direction direction, bool checks_transport,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    bool is_bad;
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "add_%s() needs a file descriptor and a callback",
                     direction == READER ? "reader" : "writer");
        return NULL;
    }
    PyObject *context = context_of(self->state, args + nargs, kwnames, &is_bad);
    int fd = is_bad ? -1 : pyhoop_fd_of(self->state, args[0]);
    if (fd < 0 || (checks_transport && check_no_transport(self, args[0], fd) < 0) ||
        pyhoop_loop_check_open(self) < 0)
        return NULL;

    HandleObject *handle =
        pyhoop_handle_new(self->state->handle_type, self, args[1], args + 2, nargs - 2, context);
    if (handle == NULL)
        return NULL;
    handle->flags |= PYHOOP_HANDLE_PERSISTENT;
    struct pyhoop_reader *reader = find(self, fd);
    bool is_new = reader == NULL;
    if (is_new)
        reader = new_reader(self, fd);
    if (reader == NULL) {
        Py_DECREF(handle);
        return NULL;
    }
    int rc = hoop_watches_want(&self->core.watches, &reader->watch,
                               wanted_by(reader) | poll_event_of[direction]);
    if (rc < 0) {
        if (is_new)
            free_reader(reader);
        Py_DECREF(handle);
        pyhoop_raise_errno(rc);
        return NULL;
    }
    HandleObject *old = reader->handles[direction];
    reader->handles[direction] = handle;
    retire(old);
    return handle;
}

static PyObject *add_public(PyObject *self, enum direction direction, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames) {
    if (add((LoopObject *)self, direction, true, args, nargs, kwnames) == NULL)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    return add_public(self, READER, args, nargs, kwnames);
}

PyObject *pyhoop_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    return add_public(self, WRITER, args, nargs, kwnames);
}

PyObject *pyhoop_loop_add_reader_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return Py_XNewRef((PyObject *)add((LoopObject *)self, READER, false, args, nargs, kwnames));
}

PyObject *pyhoop_loop_add_writer_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return Py_XNewRef((PyObject *)add((LoopObject *)self, WRITER, false, args, nargs, kwnames));
}

static PyObject *remove_from(PyObject *op, enum direction direction, bool checks_transport,
                             PyObject *file) {
    LoopObject *self = (LoopObject *)op;
    int fd = pyhoop_fd_of(self->state, file);
    if (fd < 0 || (checks_transport && check_no_transport(self, file, fd) < 0))
        return NULL;
    if (self->is_closed)
        Py_RETURN_FALSE;
    if (direction == READER && pyhoop_listener_stop_fd(self, fd))
        Py_RETURN_TRUE;
    return PyBool_FromLong(remove_direction(self, fd, direction));
}

PyObject *pyhoop_loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    PyObject *file = pyhoop_one_argument("remove_reader", "fd", args, nargs, kwnames);
    return file == NULL ? NULL : remove_from(self, READER, true, file);
}

PyObject *pyhoop_loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    PyObject *file = pyhoop_one_argument("remove_writer", "fd", args, nargs, kwnames);
    return file == NULL ? NULL : remove_from(self, WRITER, true, file);
}

PyObject *pyhoop_loop_remove_reader_private(PyObject *self, PyObject *file) {
    return remove_from(self, READER, false, file);
}

PyObject *pyhoop_loop_remove_writer_private(PyObject *self, PyObject *file) {
    return remove_from(self, WRITER, false, file);
}

PyObject *pyhoop_loop_ensure_fd_no_transport(PyObject *op, PyObject *file) {
    LoopObject *self = (LoopObject *)op;
    int fd = pyhoop_fd_of(self->state, file);
    if (fd < 0 || check_no_transport(self, file, fd) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_polled_events(PyObject *op, PyObject *number) {
    LoopObject *self = (LoopObject *)op;
    int fd = pyhoop_fd_of(self->state, number);
    if (fd < 0)
        return NULL;
    struct hoop_watch *watch = hoop_watches_find(&self->core.watches, fd);
    return PyLong_FromUnsignedLong(watch == NULL ? 0 : watch->wanted);
}
