/* SPDX-License-Identifier: MIT
 *
 * state: what the extension module keeps per interpreter: its types, the names
 * it looks up, and what it takes from asyncio.
 *
 * Owns: every reference in it, given up by the module's clear.
 */
#ifndef HOOP_PY_STATE_H
#define HOOP_PY_STATE_H

#include "py/compat.h"

/* Interned names, as fields `str_<name>`. */
#define PYHOOP_NAMES(X)                                                                            \
    X(__anext__)                                                                                   \
    X(__class__)                                                                                   \
    X(_accept_connection2)                                                                         \
    X(_asyncio_future_blocking)                                                                    \
    X(_asyncgen_finalizer_hook)                                                                    \
    X(_asyncgen_firstiter_hook)                                                                    \
    X(_attach)                                                                                     \
    X(_buffer)                                                                                     \
    X(_check_thread)                                                                               \
    X(_detach)                                                                                     \
    X(_eof)                                                                                        \
    X(_exception)                                                                                  \
    X(_get_running_loop)                                                                           \
    X(_hoop_stream)                                                                                \
    X(_limit)                                                                                      \
    X(_log_destroy_pending)                                                                        \
    X(_loop)                                                                                       \
    X(_old_agen_hooks)                                                                             \
    X(_paused)                                                                                     \
    X(_run_forever_cleanup)                                                                        \
    X(_run_forever_setup)                                                                          \
    X(_set_coroutine_origin_tracking)                                                              \
    X(_set_running_loop)                                                                           \
    X(_stream_reader_wr)                                                                           \
    X(_transport)                                                                                  \
    X(_waiter)                                                                                     \
    X(add_done_callback)                                                                           \
    X(at_eof)                                                                                      \
    X(buffer_updated)                                                                              \
    X(call_at)                                                                                     \
    X(call_exception_handler)                                                                      \
    X(call_soon)                                                                                   \
    X(callback)                                                                                    \
    X(cancelled)                                                                                   \
    X(close)                                                                                       \
    X(connection_lost)                                                                             \
    X(connection_made)                                                                             \
    X(context)                                                                                     \
    X(create_future)                                                                               \
    X(create_task)                                                                                 \
    X(data_received)                                                                               \
    X(datagram_received)                                                                           \
    X(default)                                                                                     \
    X(delay)                                                                                       \
    X(detach)                                                                                      \
    X(done)                                                                                        \
    X(ensure_future)                                                                               \
    X(eof_received)                                                                                \
    X(error_received)                                                                              \
    X(exception)                                                                                   \
    X(feed_data)                                                                                   \
    X(feed_eof)                                                                                    \
    X(fileno)                                                                                      \
    X(Future)                                                                                      \
    X(get_buffer)                                                                                  \
    X(getaddrinfo)                                                                                 \
    X(gettimeout)                                                                                  \
    X(getpeername)                                                                                 \
    X(getsockname)                                                                                 \
    X(isfuture)                                                                                    \
    X(join)                                                                                        \
    X(loop)                                                                                        \
    X(name)                                                                                        \
    X(pause_reading)                                                                               \
    X(pause_writing)                                                                               \
    X(peername)                                                                                    \
    X(proto)                                                                                       \
    X(protocol)                                                                                    \
    X(read)                                                                                        \
    X(readexactly)                                                                                 \
    X(readline)                                                                                    \
    X(readuntil)                                                                                   \
    X(remove_done_callback)                                                                        \
    X(result)                                                                                      \
    X(resume_reading)                                                                              \
    X(resume_writing)                                                                              \
    X(send)                                                                                        \
    X(sendto)                                                                                      \
    X(run_forever)                                                                                 \
    X(set_exception)                                                                               \
    X(set_result)                                                                                  \
    X(slow_callback_duration)                                                                      \
    X(socket)                                                                                      \
    X(sockname)                                                                                    \
    X(Task)                                                                                        \
    X(throw)                                                                                       \
    X(time)                                                                                        \
    X(when)

/* Objects imported once: field, module, attribute. */
#define PYHOOP_IMPORTS(X)                                                                          \
    X(asyncio_base_loop, "asyncio.base_events", "BaseEventLoop")                                   \
    X(asyncio_buffered_protocol, "asyncio.protocols", "BufferedProtocol")                          \
    X(asyncio_datagram_transport, "asyncio.transports", "DatagramTransport")                       \
    X(asyncio_invalid_state_error, "asyncio.exceptions", "InvalidStateError")                      \
    X(asyncio_handle, "asyncio.events", "Handle")                                                  \
    X(asyncio_read_transport, "asyncio.transports", "ReadTransport")                               \
    X(asyncio_sendfile_not_available, "asyncio.exceptions", "SendfileNotAvailableError")           \
    X(asyncio_selector_loop, "asyncio.unix_events", "_UnixSelectorEventLoop")                      \
    X(asyncio_server, "asyncio.base_events", "Server")                                             \
    X(asyncio_incomplete_read_error, "asyncio.exceptions", "IncompleteReadError")                  \
    X(asyncio_limit_overrun_error, "asyncio.exceptions", "LimitOverrunError")                      \
    X(asyncio_run_until_complete_cb, "asyncio.base_events", "_run_until_complete_cb")              \
    X(asyncio_stream_reader, "asyncio.streams", "StreamReader")                                    \
    X(asyncio_stream_reader_protocol, "asyncio.streams", "StreamReaderProtocol")                   \
    X(asyncio_threadsafe_handle, "asyncio.events", PYHOOP_THREADSAFE_HANDLE_NAME)                  \
    X(asyncio_timer_handle, "asyncio.events", "TimerHandle")                                       \
    X(asyncio_transport, "asyncio.transports", "Transport")                                        \
    X(asyncio_transport_socket, "asyncio.trsock", "TransportSocket")                               \
    X(get_asyncgen_hooks, "sys", "get_asyncgen_hooks")                                             \
    X(set_asyncgen_hooks, "sys", "set_asyncgen_hooks")                                             \
    X(socket_class, "socket", "socket")                                                            \
    X(socket_getaddrinfo, "socket", "getaddrinfo")                                                 \
    X(cold_address_families, "hoop._cold", "ADDRESS_FAMILIES")                                     \
    X(cold_accept_connection, "hoop._cold", "accept_connection")                                   \
    X(cold_connect_later, "hoop._cold", "connect_later")                                           \
    X(cold_describe_handle, "hoop._cold", "describe_handle")                                       \
    X(cold_describe_pipe, "hoop._cold", "describe_pipe")                                           \
    X(cold_describe_transport, "hoop._cold", "describe_transport")                                 \
    X(cold_extract_stack, "hoop._cold", "extract_stack")                                           \
    X(cold_log_connection, "hoop._cold", "log_connection")                                         \
    X(cold_log_debug, "hoop._cold", "log_debug")                                                   \
    X(cold_log_error, "hoop._cold", "log_error")                                                   \
    X(cold_log_hang_up, "hoop._cold", "log_hang_up")                                               \
    X(cold_report_callback_error, "hoop._cold", "report_callback_error")                           \
    X(cold_run_foreign, "hoop._cold", "run_foreign_handle")                                        \
    X(cold_report_slow_call, "hoop._cold", "report_slow_call")                                     \
    X(cold_report_slow_handle, "hoop._cold", "report_slow_handle")                                 \
    X(cold_socket_kinds, "hoop._cold", "SOCKET_KINDS")                                             \
    X(cold_warn_send_raised, "hoop._cold", "warn_send_raised")

enum { PYHOOP_MAX_FREE_HANDLES = 8192 };

/* Classes whose methods C takes the place of, as long as they are asyncio's (stream_guard.c). */
enum pyhoop_guarded { PYHOOP_GUARDED_READER, PYHOOP_GUARDED_PROTOCOL, PYHOOP_GUARDED_COUNT };

struct pyhoop_guard {
    PyTypeObject *type; /* changes whenever one of them does; borrowed */
    PyObject *expected; /* list of (class, name, value) */
    unsigned int tag;   /* the type's when all was last found so; 0: look */
};

struct pyhoop_state {
    PyTypeObject *loop_type;
    PyTypeObject *handle_type;
    PyTypeObject *timer_handle_type;
    PyTypeObject *threadsafe_handle_type;
    PyTypeObject *listener_type;
    PyTypeObject *stream_type;
    PyTypeObject *stream_reader_type;
    PyTypeObject *stream_read_type;
    PyTypeObject *transport_type;
    PyTypeObject *datagram_transport_type;
    PyTypeObject *operation_type;
    PyTypeObject *coroutine_function_type;
    PyTypeObject *read_pipe_type;
    PyTypeObject *write_pipe_type;
    PyObject *events_module;  /* its running-loop functions too */
    PyObject *futures_module; /* Future and Task are looked up at each call: they get replaced */
    PyObject *tasks_module;
    PyObject *socket_module;
    PyObject *empty_tuple;
    PyObject *kwnames_context; /* ("context",) */
    PyObject *kwnames_loop;    /* ("loop",) */
    PyObject *seen_kwnames;    /* the last ("context",) whose string was not interned */
#define FIELD(name) PyObject *str_##name;
    PYHOOP_NAMES(FIELD)
#undef FIELD
#define FIELD(field, module, attribute) PyObject *field;
    PYHOOP_IMPORTS(FIELD)
#undef FIELD
    PyObject *spare_stop;          /* stream_read.c: a StopIteration for each `await` */
    PyObject *stream_method_names; /* of those methods of a reader */
    struct pyhoop_guard guards[PYHOOP_GUARDED_COUNT];
    int streams_are_stock; /* they were asyncio's when hoop was imported */
    void *free_handles;    /* handle.c: spent handles to make new ones of */
    Py_ssize_t free_handle_count;
    int sendfile_always_seeks;         /* 3.14: also when nothing was sent */
    int server_attach_takes_transport; /* 3.13: Server._attach(transport); before: _attach() */
};

extern struct PyModuleDef pyhoop_module;

/* The state of the module that defines `type` or a base of it. */
static inline struct pyhoop_state *pyhoop_state_of_type(PyTypeObject *type) {
    return PyModule_GetState(PyType_GetModuleByDef(type, &pyhoop_module));
}

/* Raises OSError for a `-errno` of the core; returns NULL. */
PyObject *pyhoop_raise_errno(int rc);

/* SystemExit and KeyboardInterrupt end the loop; everything else is reported. */
static inline int pyhoop_error_leaves_loop(void) {
    return PyErr_ExceptionMatches(PyExc_SystemExit) ||
           PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

#endif
