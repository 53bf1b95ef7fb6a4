/* SPDX-License-Identifier: MIT
 *
 * module: hoop._hoop, put together.
 */
#include "core/sys.h"
#include "py/coroutine.h"
#include "py/datagram.h"
#include "py/fork.h"
#include "py/handle.h"
#include "py/listener.h"
#include "py/loop.h"
#include "py/operation.h"
#include "py/pipe.h"
#include "py/state.h"
#include "py/stream.h"
#include "py/transport.h"

static PyObject *import_attribute(const char *module_name, const char *attribute) {
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL)
        return NULL;
    PyObject *value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return value;
}

static int init_names(struct pyhoop_state *state) {
#define INTERN(name)                                                                               \
    state->str_##name = PyUnicode_InternFromString(#name);                                         \
    if (state->str_##name == NULL)                                                                 \
        return -1;
    PYHOOP_NAMES(INTERN)
#undef INTERN
    state->empty_tuple = PyTuple_New(0);
    state->kwnames_context = PyTuple_Pack(1, state->str_context);
    state->kwnames_loop = PyTuple_Pack(1, state->str_loop);
    return state->empty_tuple == NULL || state->kwnames_context == NULL ||
                   state->kwnames_loop == NULL
               ? -1
               : 0;
}

static int init_imports(struct pyhoop_state *state) {
#define IMPORT(field, module, attribute)                                                           \
    state->field = import_attribute(module, attribute);                                            \
    if (state->field == NULL)                                                                      \
        return -1;
    PYHOOP_IMPORTS(IMPORT)
#undef IMPORT
    state->events_module = PyImport_ImportModule("asyncio.events");
    state->futures_module = PyImport_ImportModule("asyncio.futures");
    state->tasks_module = PyImport_ImportModule("asyncio.tasks");
    state->socket_module = PyImport_ImportModule("socket");
    return state->events_module == NULL || state->futures_module == NULL ||
                   state->tasks_module == NULL || state->socket_module == NULL
               ? -1
               : 0;
}

/* How many arguments a method in Python takes, self included; -1 with an exception set. */
static long argument_count(PyObject *type, const char *name) {
    long result = -1;
    PyObject *method = PyObject_GetAttrString(type, name);
    PyObject *code = method == NULL ? NULL : PyObject_GetAttrString(method, "__code__");
    PyObject *count = code == NULL ? NULL : PyObject_GetAttrString(code, "co_argcount");
    if (count != NULL)
        result = PyLong_AsLong(count);
    Py_XDECREF(method);
    Py_XDECREF(code);
    Py_XDECREF(count);
    return result;
}

/* What the running Python's private methods do. */
static int init_differences(struct pyhoop_state *state) {
    long attach = argument_count(state->asyncio_server, "_attach");
    long seek = argument_count(state->asyncio_selector_loop, "_sock_sendfile_update_filepos");
    if (attach < 0 || seek < 0)
        return -1;
    state->server_attach_takes_transport = attach == 2; /* else: only self */
    state->sendfile_always_seeks = seek == 3;           /* else: it asks how much was sent */
    return 0;
}

static PyObject *pidfd_open(PyObject *module, PyObject *pid) {
    (void)module;
    long number = PyLong_AsLong(pid);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    int fd = hoop_sys_pidfd_open((pid_t)number);
    return fd < 0 ? pyhoop_raise_errno(fd) : PyLong_FromLong(fd);
}

static PyObject *pidfd_send_signal(PyObject *module, PyObject *args) {
    (void)module;
    int pidfd, number;
    if (!PyArg_ParseTuple(args, "ii:pidfd_send_signal", &pidfd, &number))
        return NULL;
    int rc = hoop_sys_pidfd_send_signal(pidfd, number);
    if (rc < 0)
        return pyhoop_raise_errno(rc);
    Py_RETURN_NONE;
}

/* os and signal have these too, unless Python was built against older headers. */
static PyMethodDef module_methods[] = {
    {"pidfd_open", pidfd_open, METH_O,
     PyDoc_STR("pidfd_open($module, pid, /)\n--\n\nA descriptor of a process. os.pidfd_open.")},
    {"pidfd_send_signal", pidfd_send_signal, METH_VARARGS,
     PyDoc_STR("pidfd_send_signal($module, pidfd, signal, /)\n--\n\nSend a signal. "
               "signal.pidfd_send_signal.")},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *make_type(PyObject *module, PyType_Spec *spec, PyObject *bases) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, bases);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

enum {
    SOCKET_PARTS = PYHOOP_TRANSPORT_READS | PYHOOP_TRANSPORT_WRITES | PYHOOP_TRANSPORT_HAS_SOCKET,
};

/* Its struct begins as the instances of asyncio's bases do: head, then the `_extra` slot. */
static int check_layout(struct pyhoop_state *state) {
    if (((PyTypeObject *)state->asyncio_transport)->tp_basicsize ==
        (Py_ssize_t)offsetof(TransportObject, dict))
        return 0;
    PyErr_SetString(PyExc_ImportError, "asyncio.Transport has a layout hoop does not know");
    return -1;
}

static PyTypeObject *make_transport_type(PyObject *module, PyType_Spec *spec, PyObject *bases,
                                         int parts) {
    PyTypeObject *type = make_type(module, spec, bases);
    if (type != NULL && pyhoop_transport_share(type, parts) < 0)
        Py_CLEAR(type);
    return type;
}

/* Both bases, as asyncio's own since 3.12. */
static PyTypeObject *make_datagram_transport_type(PyObject *module, struct pyhoop_state *state) {
    PyObject *bases = PyTuple_Pack(2, state->asyncio_transport, state->asyncio_datagram_transport);
    PyTypeObject *type = NULL;
    if (bases != NULL)
        type = make_transport_type(module, &pyhoop_datagram_transport_spec, bases, SOCKET_PARTS);
    Py_XDECREF(bases);
    return type;
}

static PyTypeObject *make_stream_transport_type(PyObject *module, struct pyhoop_state *state) {
    PyTypeObject *type =
        make_transport_type(module, &pyhoop_transport_spec, state->asyncio_transport, SOCKET_PARTS);
    if (type == NULL)
        return NULL;
    PyObject *mode = import_attribute("asyncio.constants", "_SendfileMode");
    PyObject *native = mode == NULL ? NULL : PyObject_GetAttrString(mode, "TRY_NATIVE");
    if (native == NULL ||
        PyObject_SetAttrString((PyObject *)type, "_sendfile_compatible", native) < 0 ||
        PyObject_SetAttrString((PyObject *)type, "_start_tls_compatible", Py_True) < 0)
        Py_CLEAR(type);
    Py_XDECREF(mode);
    Py_XDECREF(native);
    return type;
}

static int init_types(PyObject *module, struct pyhoop_state *state) {
    state->handle_type = make_type(module, &pyhoop_handle_spec, NULL);
    state->timer_handle_type = make_type(module, &pyhoop_timer_handle_spec, NULL);
    state->threadsafe_handle_type =
        PYHOOP_HAS_THREADSAFE_HANDLE ? make_type(module, &pyhoop_threadsafe_handle_spec, NULL)
                                     : (PyTypeObject *)Py_XNewRef((PyObject *)state->handle_type);
    state->listener_type = make_type(module, &pyhoop_listener_spec, NULL);
    state->transport_type = make_stream_transport_type(module, state);
    state->datagram_transport_type = make_datagram_transport_type(module, state);
    state->read_pipe_type = make_transport_type(
        module, &pyhoop_read_pipe_spec, state->asyncio_read_transport, PYHOOP_TRANSPORT_READS);
    state->write_pipe_type = make_transport_type(module, &pyhoop_write_pipe_spec,
                                                 state->asyncio_transport, PYHOOP_TRANSPORT_WRITES);
    state->loop_type = make_type(module, &pyhoop_loop_spec, NULL);
    state->operation_type = make_type(module, &pyhoop_operation_spec, NULL);
    state->coroutine_function_type = make_type(module, &pyhoop_coroutine_function_spec, NULL);
    state->stream_type = make_type(module, &pyhoop_stream_spec, NULL);
    state->stream_read_type = make_type(module, &pyhoop_stream_read_spec, NULL);
    state->stream_reader_type =
        make_type(module, &pyhoop_stream_reader_spec, state->asyncio_stream_reader);
    return state->handle_type == NULL || state->timer_handle_type == NULL ||
                   state->threadsafe_handle_type == NULL || state->listener_type == NULL ||
                   state->transport_type == NULL || state->datagram_transport_type == NULL ||
                   state->loop_type == NULL || state->operation_type == NULL ||
                   state->coroutine_function_type == NULL || state->read_pipe_type == NULL ||
                   state->write_pipe_type == NULL || state->stream_type == NULL ||
                   state->stream_read_type == NULL || state->stream_reader_type == NULL
               ? -1
               : 0;
}

static int module_exec(PyObject *module) {
    struct pyhoop_state *state = PyModule_GetState(module);
    int rc = pyhoop_fork_init();
    if (rc < 0) {
        pyhoop_raise_errno(rc);
        return -1;
    }
    if (init_names(state) < 0 || init_imports(state) < 0 || init_differences(state) < 0 ||
        check_layout(state) < 0)
        return -1;
    if (init_types(module, state) < 0 || pyhoop_coroutines_add(state) < 0)
        return -1;
    return pyhoop_stream_guard_init(state);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    struct pyhoop_state *state = PyModule_GetState(module);
    Py_VISIT(state->loop_type);
    Py_VISIT(state->handle_type);
    Py_VISIT(state->timer_handle_type);
    Py_VISIT(state->threadsafe_handle_type);
    Py_VISIT(state->listener_type);
    Py_VISIT(state->stream_type);
    Py_VISIT(state->stream_reader_type);
    Py_VISIT(state->stream_read_type);
    Py_VISIT(state->transport_type);
    Py_VISIT(state->datagram_transport_type);
    Py_VISIT(state->operation_type);
    Py_VISIT(state->coroutine_function_type);
    Py_VISIT(state->read_pipe_type);
    Py_VISIT(state->write_pipe_type);
    Py_VISIT(state->events_module);
    Py_VISIT(state->futures_module);
    Py_VISIT(state->tasks_module);
    Py_VISIT(state->socket_module);
    Py_VISIT(state->empty_tuple);
    Py_VISIT(state->kwnames_context);
    Py_VISIT(state->kwnames_loop);
    Py_VISIT(state->seen_kwnames);
    Py_VISIT(state->spare_stop);
    Py_VISIT(state->stream_method_names);
    for (int i = 0; i < PYHOOP_GUARDED_COUNT; i++)
        Py_VISIT(state->guards[i].expected);
#define VISIT(field, module, attribute) Py_VISIT(state->field);
    PYHOOP_IMPORTS(VISIT)
#undef VISIT
    return 0;
}

static int module_clear(PyObject *module) {
    struct pyhoop_state *state = PyModule_GetState(module);
    pyhoop_handles_clear_free(state);
    Py_CLEAR(state->loop_type);
    Py_CLEAR(state->handle_type);
    Py_CLEAR(state->timer_handle_type);
    Py_CLEAR(state->threadsafe_handle_type);
    Py_CLEAR(state->listener_type);
    Py_CLEAR(state->stream_type);
    Py_CLEAR(state->stream_reader_type);
    Py_CLEAR(state->stream_read_type);
    Py_CLEAR(state->transport_type);
    Py_CLEAR(state->datagram_transport_type);
    Py_CLEAR(state->operation_type);
    Py_CLEAR(state->coroutine_function_type);
    Py_CLEAR(state->read_pipe_type);
    Py_CLEAR(state->write_pipe_type);
    Py_CLEAR(state->events_module);
    Py_CLEAR(state->futures_module);
    Py_CLEAR(state->tasks_module);
    Py_CLEAR(state->socket_module);
    Py_CLEAR(state->empty_tuple);
    Py_CLEAR(state->kwnames_context);
    Py_CLEAR(state->kwnames_loop);
    Py_CLEAR(state->seen_kwnames);
    Py_CLEAR(state->spare_stop);
    Py_CLEAR(state->stream_method_names);
    for (int i = 0; i < PYHOOP_GUARDED_COUNT; i++)
        Py_CLEAR(state->guards[i].expected);
#define CLEAR(name) Py_CLEAR(state->str_##name);
    PYHOOP_NAMES(CLEAR)
#undef CLEAR
#define CLEAR(field, module, attribute) Py_CLEAR(state->field);
    PYHOOP_IMPORTS(CLEAR)
#undef CLEAR
    return 0;
}

static void module_free(void *module) {
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

struct PyModuleDef pyhoop_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hoop._hoop",
    .m_doc = PyDoc_STR("The C half of hoop."),
    .m_size = sizeof(struct pyhoop_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__hoop(void);

PyMODINIT_FUNC PyInit__hoop(void) {
    return PyModuleDef_Init(&pyhoop_module);
}
