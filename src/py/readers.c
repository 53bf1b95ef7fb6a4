/* SPDX-License-Identifier: MIT */
#include "py/readers.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "py/listener.h"
#include "py/transport.h"

enum { DIRECTIONS = 2 };

static const uint32_t poll_event_of[DIRECTIONS] = {HOOP_POLL_READ, HOOP_POLL_WRITE};

struct pyhoop_reader {
    struct hoop_watch watch;
    LoopObject *loop;
    HandleObject *handles[DIRECTIONS];
    struct pyhoop_waiter waiters[DIRECTIONS]; /* heads of circular lists */
    PyObject *socket;                         /* weak: whose operations the watch serves, or NULL */
    PyObject *file;                           /* what the handles are for; NULL: a number */
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

/* ---- lists of waiters ---- */

static void list_init(struct pyhoop_waiter *head) {
    head->next = head->previous = head;
}

static bool list_is_empty(const struct pyhoop_waiter *head) {
    return head->next == head;
}

static void list_append(struct pyhoop_waiter *head, struct pyhoop_waiter *waiter) {
    waiter->next = head;
    waiter->previous = head->previous;
    head->previous->next = waiter;
    head->previous = waiter;
}

static void list_remove(struct pyhoop_waiter *waiter) {
    waiter->previous->next = waiter->next;
    waiter->next->previous = waiter->previous;
    waiter->next = waiter->previous = NULL;
}

/* Moves all from one list to another; they belong to no reader then. */
static void list_move(struct pyhoop_waiter *from, struct pyhoop_waiter *to) {
    while (!list_is_empty(from)) {
        struct pyhoop_waiter *waiter = from->next;
        list_remove(waiter);
        waiter->reader = NULL;
        list_append(to, waiter);
    }
}

static void wake(struct pyhoop_state *state, PyObject *future) {
    PyObject *result = PyObject_CallMethodOneArg(future, state->str_set_result, Py_None);
    Py_XDECREF(result);
    if (result != NULL)
        return;
    if (PyErr_ExceptionMatches(state->asyncio_invalid_state_error))
        PyErr_Clear(); /* cancelled, and the task has not run yet */
    else
        PyErr_WriteUnraisable(future);
}

/* What is woken may run code that makes others in the list leave it. */
static void wake_all(struct pyhoop_state *state, struct pyhoop_waiter *list) {
    while (!list_is_empty(list)) {
        struct pyhoop_waiter *waiter = list->next;
        PyObject *owner = waiter->owner;
        PyObject *future = Py_NewRef(waiter->future);
        list_remove(waiter);
        wake(state, future);
        Py_DECREF(future);
        Py_DECREF(owner);
    }
}

static void drop_all(struct pyhoop_waiter *list) {
    while (!list_is_empty(list)) {
        struct pyhoop_waiter *waiter = list->next;
        list_remove(waiter);
        Py_DECREF(waiter->owner);
    }
}

/* ---- records ---- */

static struct pyhoop_reader *new_reader(LoopObject *loop, int fd) {
    if (pyhoop_loop_check_open(loop) < 0) /* what led here may have run code that closed it */
        return NULL;
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
    list_init(&reader->waiters[PYHOOP_READER]);
    list_init(&reader->waiters[PYHOOP_WRITER]);
    return reader;
}

static void retire(HandleObject *handle) {
    if (handle == NULL)
        return;
    if (pyhoop_handle_cancel(handle) < 0)
        PyErr_WriteUnraisable((PyObject *)handle);
    Py_DECREF(handle);
}

/* Waiters of a descriptor that is somebody else's now try again, and find that out. */
static void free_reader(struct pyhoop_reader *reader) {
    LoopObject *loop = reader->loop;
    struct pyhoop_waiter waiters;
    hoop_watches_stop(&loop->core.watches, &reader->watch);
    HandleObject *handles[DIRECTIONS] = {reader->handles[PYHOOP_READER],
                                         reader->handles[PYHOOP_WRITER]};
    PyObject *socket = reader->socket, *file = reader->file;
    list_init(&waiters);
    list_move(&reader->waiters[PYHOOP_READER], &waiters);
    list_move(&reader->waiters[PYHOOP_WRITER], &waiters);
    PyMem_Free(reader);
    if (loop->is_closed)
        drop_all(&waiters);
    else
        wake_all(loop->state, &waiters);
    retire(handles[PYHOOP_READER]);
    retire(handles[PYHOOP_WRITER]);
    Py_XDECREF(socket);
    Py_XDECREF(file);
}

static void forget(struct hoop_watch *watch) {
    free_reader(reader_of(watch));
}

static int visit_list(struct pyhoop_waiter *head, visitproc visit, void *arg) {
    for (struct pyhoop_waiter *waiter = head->next; waiter != head; waiter = waiter->next)
        Py_VISIT(waiter->owner);
    return 0;
}

static int watch_traverse(struct hoop_watch *watch, visitproc visit, void *arg) {
    struct pyhoop_reader *reader = reader_of(watch);
    int rc = 0;
    Py_VISIT(reader->file);
    for (int i = 0; rc == 0 && i < DIRECTIONS; i++) {
        Py_VISIT(reader->handles[i]);
        rc = visit_list(&reader->waiters[i], visit, arg);
    }
    return rc;
}

static bool has_handle(const struct pyhoop_reader *reader) {
    return reader->handles[PYHOOP_READER] != NULL || reader->handles[PYHOOP_WRITER] != NULL;
}

/* A callback needs to be told again and again while the descriptor is ready; operations try
 * before they wait, so they need to hear of changes only. */
static uint32_t wanted_by(const struct pyhoop_reader *reader) {
    uint32_t wanted = 0;
    for (int i = 0; i < DIRECTIONS; i++) {
        if (reader->handles[i] != NULL || !list_is_empty(&reader->waiters[i]))
            wanted |= poll_event_of[i];
    }
    return wanted == 0 || has_handle(reader) ? wanted : wanted | HOOP_POLL_EDGE;
}

/* Tells the kernel that somebody has left. The record stays for the next operation if that is
 * free: by edges, a descriptor that nobody asks for costs nothing. */
static void update(struct pyhoop_reader *reader) {
    uint32_t wanted = wanted_by(reader);
    if (wanted == 0 && !(reader->watch.armed & HOOP_POLL_EDGE))
        free_reader(reader);
    else
        (void)hoop_watches_want(&reader->loop->core.watches, &reader->watch, wanted);
}

/* Removes one direction's callback; true if there was one. */
static bool remove_handle(LoopObject *loop, int fd, enum pyhoop_direction direction) {
    struct pyhoop_reader *reader = find(loop, fd);
    if (reader == NULL || reader->handles[direction] == NULL)
        return false;
    HandleObject *handle = reader->handles[direction];
    reader->handles[direction] = NULL;
    PyObject *file = NULL;
    if (!has_handle(reader)) {
        file = reader->file;
        reader->file = NULL;
    }
    update(reader);
    retire(handle);
    Py_XDECREF(file);
    return true;
}

static int queue_handle(LoopObject *loop, HandleObject *handle) {
    Py_INCREF(handle);
    if (hoop_loop_give(&loop->core, &handle->timer.item) < 0)
        Py_DECREF(handle); /* no memory: the descriptor is still ready next time */
    return 0;
}

static void wake_waiters(struct pyhoop_reader *reader, uint32_t events) {
    struct pyhoop_state *state = reader->loop->state;
    struct pyhoop_waiter waiters;
    list_init(&waiters);
    for (int i = 0; i < DIRECTIONS; i++) {
        if (events & poll_event_of[i])
            list_move(&reader->waiters[i], &waiters);
    }
    if (list_is_empty(&waiters))
        return;
    update(reader);
    wake_all(state, &waiters);
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
            remove_handle(loop, fd, (enum pyhoop_direction)i);
            reader = find(loop, fd);
            if (reader == NULL)
                return 0;
        } else {
            queue_handle(loop, handle);
        }
    }
    wake_waiters(reader, events);
    return 0;
}

/* ---- waiting ---- */

static bool is_number_of(PyObject *file, int fd) {
    int number = PyObject_AsFileDescriptor(file);
    if (number < 0)
        PyErr_Clear(); /* ValueError: it is closed */
    return number == fd;
}

/* Whether what the record served is closed, and the number used again. */
static bool is_outdated(const struct pyhoop_reader *reader, int fd) {
    if (reader->file != NULL) {
        PyObject *file = Py_NewRef(reader->file);
        bool is_closed = !is_number_of(file, fd);
        Py_DECREF(file);
        return is_closed;
    }
    PyObject *socket = NULL;
    if (reader->socket == NULL)
        return false;
    if (PyWeakref_GetRef(reader->socket, &socket) <= 0)
        return true;
    bool is_closed = !is_number_of(socket, fd);
    Py_DECREF(socket);
    return is_closed;
}

/* The record of `fd`, if it is not outdated. Asking what it served for its number runs code, which
 * may put another in its place. */
static struct pyhoop_reader *find_current(LoopObject *loop, int fd) {
    struct pyhoop_reader *reader = find(loop, fd);
    if (reader != NULL && is_outdated(reader, fd) && find(loop, fd) == reader)
        free_reader(reader);
    return find(loop, fd);
}

/* The record of `fd` as it serves `socket` (a weak reference to it), borrowed from the table. */
static struct pyhoop_reader *record_for(LoopObject *loop, PyObject *socket, int fd) {
    struct pyhoop_reader *reader = find(loop, fd);
    if (reader != NULL && reader->socket == socket)
        return reader;
    reader = find_current(loop, fd);
    if (reader == NULL)
        reader = new_reader(loop, fd);
    if (reader != NULL && reader->socket == NULL)
        reader->socket = Py_NewRef(socket);
    return reader;
}

int pyhoop_waiter_enter(LoopObject *loop, PyObject *socket, int fd, enum pyhoop_direction direction,
                        struct pyhoop_waiter *waiter) {
    /* While its referent lives there is one such reference, so it can be compared. */
    PyObject *reference = PyWeakref_NewRef(socket, NULL);
    if (reference == NULL)
        return -1;
    struct pyhoop_reader *reader = record_for(loop, reference, fd);
    Py_DECREF(reference);
    if (reader == NULL)
        return -1;
    waiter->reader = reader;
    list_append(&reader->waiters[direction], waiter);
    int rc = hoop_watches_want(&loop->core.watches, &reader->watch, wanted_by(reader));
    if (rc == 0) {
        Py_INCREF(waiter->owner);
        return 0;
    }
    list_remove(waiter);
    update(reader);
    pyhoop_raise_errno(rc);
    return -1;
}

void pyhoop_waiter_leave(struct pyhoop_waiter *waiter) {
    if (waiter->next == NULL)
        return;
    struct pyhoop_reader *reader = waiter->reader;
    list_remove(waiter);
    if (reader != NULL)
        update(reader);
    Py_DECREF(waiter->owner);
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
    if (overflow > 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        fd = -1;
    } else if (overflow < 0 || fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
        fd = -1;
    }
    Py_DECREF(number);
    return (int)fd;
}

/* asyncio checks with the object as it was given, and names it so. */
int pyhoop_reader_check_no_transport(LoopObject *self, PyObject *file, int fd) {
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

/* (fd, callback, *args, context=None). Returns the handle, a reference of its own: letting go of
 * the one it replaces may remove it again. */
static HandleObject *add(LoopObject *self, enum pyhoop_direction direction, bool checks_transport,
                         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    bool is_bad;
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "BaseSelectorEventLoop.add_%s() missing %s",
                     direction == PYHOOP_READER ? "reader" : "writer",
                     nargs == 1 ? "1 required positional argument: 'callback'"
                                : "2 required positional arguments: 'fd' and 'callback'");
        return NULL;
    }
    PyObject *context = context_of(self->state, args + nargs, kwnames, &is_bad);
    int fd = is_bad ? -1 : pyhoop_fd_of(self->state, args[0]);
    if (fd < 0 || (checks_transport && pyhoop_reader_check_no_transport(self, args[0], fd) < 0) ||
        pyhoop_loop_check_open(self) < 0)
        return NULL;

    HandleObject *handle =
        pyhoop_handle_new(self->state->handle_type, self, args[1], args + 2, nargs - 2, context);
    if (handle == NULL)
        return NULL;
    handle->flags |= PYHOOP_HANDLE_PERSISTENT;
    struct pyhoop_reader *reader = find(self, fd);
    if (reader != NULL && reader->file != args[0])
        reader = find_current(self, fd);
    bool is_new = reader == NULL;
    if (is_new)
        reader = new_reader(self, fd);
    if (reader == NULL) {
        Py_DECREF(handle);
        return NULL;
    }
    uint32_t wanted = (wanted_by(reader) | poll_event_of[direction]) & ~HOOP_POLL_EDGE;
    int rc = hoop_watches_want(&self->core.watches, &reader->watch, wanted);
    if (rc < 0) {
        if (is_new)
            free_reader(reader);
        Py_DECREF(handle);
        pyhoop_raise_errno(rc);
        return NULL;
    }
    HandleObject *old = reader->handles[direction];
    PyObject *old_file = reader->file;
    reader->handles[direction] = (HandleObject *)Py_NewRef((PyObject *)handle);
    reader->file = PyLong_Check(args[0]) ? NULL : Py_NewRef(args[0]);
    retire(old);
    Py_XDECREF(old_file);
    return handle;
}

static PyObject *add_public(PyObject *self, enum pyhoop_direction direction, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames) {
    HandleObject *handle = add((LoopObject *)self, direction, true, args, nargs, kwnames);
    if (handle == NULL)
        return NULL;
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    return add_public(self, PYHOOP_READER, args, nargs, kwnames);
}

PyObject *pyhoop_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames) {
    return add_public(self, PYHOOP_WRITER, args, nargs, kwnames);
}

PyObject *pyhoop_loop_add_reader_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return (PyObject *)add((LoopObject *)self, PYHOOP_READER, false, args, nargs, kwnames);
}

PyObject *pyhoop_loop_add_writer_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return (PyObject *)add((LoopObject *)self, PYHOOP_WRITER, false, args, nargs, kwnames);
}

/* What asyncio's selector does for a file that has been closed: it is found by itself. */
static int find_by_file(LoopObject *self, PyObject *file) {
    const struct hoop_watches *watches = &self->core.watches;
    for (size_t fd = 0; !self->is_closed && fd < watches->slot_count; fd++) {
        struct pyhoop_reader *reader = find(self, (int)fd);
        if (reader != NULL && reader->file == file)
            return (int)fd;
    }
    return -1;
}

/* The descriptor to remove from; -1 with an exception, or without one: there is none. */
static int fd_to_remove(LoopObject *self, PyObject *file) {
    int fd = pyhoop_fd_of(self->state, file);
    if (fd >= 0)
        return fd;
    bool is_huge = PyErr_ExceptionMatches(PyExc_OverflowError);
    if (!is_huge && PyErr_ExceptionMatches(PyExc_ValueError))
        fd = find_by_file(self, file);
    if (is_huge || fd >= 0)
        PyErr_Clear();
    return fd;
}

static PyObject *remove_from(PyObject *op, enum pyhoop_direction direction, bool checks_transport,
                             PyObject *file) {
    LoopObject *self = (LoopObject *)op;
    int fd = fd_to_remove(self, file);
    if (PyErr_Occurred() ||
        (checks_transport && pyhoop_reader_check_no_transport(self, file, fd) < 0))
        return NULL;
    if (fd < 0 || self->is_closed)
        Py_RETURN_FALSE;
    if (direction == PYHOOP_READER && pyhoop_listener_stop_fd(self, fd))
        Py_RETURN_TRUE;
    return PyBool_FromLong(remove_handle(self, fd, direction));
}

PyObject *pyhoop_loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    PyObject *file = pyhoop_one_argument("remove_reader", "fd", args, nargs, kwnames);
    return file == NULL ? NULL : remove_from(self, PYHOOP_READER, true, file);
}

PyObject *pyhoop_loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    PyObject *file = pyhoop_one_argument("remove_writer", "fd", args, nargs, kwnames);
    return file == NULL ? NULL : remove_from(self, PYHOOP_WRITER, true, file);
}

PyObject *pyhoop_loop_remove_reader_private(PyObject *self, PyObject *file) {
    return remove_from(self, PYHOOP_READER, false, file);
}

PyObject *pyhoop_loop_remove_writer_private(PyObject *self, PyObject *file) {
    return remove_from(self, PYHOOP_WRITER, false, file);
}

PyObject *pyhoop_loop_ensure_fd_no_transport(PyObject *op, PyObject *file) {
    LoopObject *self = (LoopObject *)op;
    int fd = pyhoop_fd_of(self->state, file);
    if (fd < 0 || pyhoop_reader_check_no_transport(self, file, fd) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *pyhoop_loop_polled_events(PyObject *op, PyObject *number) {
    LoopObject *self = (LoopObject *)op;
    int fd = pyhoop_fd_of(self->state, number);
    if (fd < 0)
        return NULL;
    struct hoop_watch *watch = hoop_watches_find(&self->core.watches, fd);
    return PyLong_FromUnsignedLong(watch == NULL ? 0 : watch->wanted & ~HOOP_POLL_EDGE);
}
