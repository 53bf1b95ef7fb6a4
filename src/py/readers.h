/* SPDX-License-Identifier: MIT
 *
 * readers: add_reader and add_writer: a user's callbacks for a descriptor.
 *
 * Layer: py, beside transports. asyncio: BaseSelectorEventLoop._add_reader etc.
 * Owns: up to two handles a descriptor. Never the descriptor, nor its flags.
 * Order: a ready descriptor's handle goes through the ready queue, reader
 *   first, as in asyncio.
 */
#ifndef HOOP_PY_READERS_H
#define HOOP_PY_READERS_H

#include <stdbool.h>

#include "py/loop.h"

/* selectors._fileobj_to_fd: an int, or what has fileno(). -1 with ValueError set. */
int pyhoop_fd_of(struct pyhoop_state *state, PyObject *file);

PyObject *pyhoop_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames);
PyObject *pyhoop_loop_remove_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);
PyObject *pyhoop_loop_remove_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames);

/* The same without asking whether a transport has the descriptor, for asyncio's own code. */
PyObject *pyhoop_loop_add_reader_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *pyhoop_loop_add_writer_private(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *pyhoop_loop_remove_reader_private(PyObject *self, PyObject *file);
PyObject *pyhoop_loop_remove_writer_private(PyObject *self, PyObject *file);

/* Raises RuntimeError if an open transport has the descriptor. */
PyObject *pyhoop_loop_ensure_fd_no_transport(PyObject *self, PyObject *file);

/* What the descriptor's callbacks wait for: selectors.EVENT_READ | EVENT_WRITE. */
PyObject *pyhoop_loop_polled_events(PyObject *self, PyObject *fd);

#endif
