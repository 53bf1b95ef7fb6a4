/* SPDX-License-Identifier: MIT
 *
 * compat: Python.h, and all that differs between the Python versions we support.
 */
#ifndef HOOP_PY_COMPAT_H
#define HOOP_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_READONLY READONLY

/* 3.12 made the one-object form public. */
static inline PyObject *PyErr_GetRaisedException(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static inline void PyErr_SetRaisedException(PyObject *exception) {
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception,
                  PyException_GetTraceback(exception));
}
#endif

#if PY_VERSION_HEX < 0x030D0000
/* 3.13 brought look-ups that return a reference of one's own. */
static inline int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result) {
    *result = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *result != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

static inline int PyWeakref_GetRef(PyObject *reference, PyObject **result) {
    PyObject *found = PyWeakref_GetObject(reference);
    *result = found == NULL || found == Py_None ? NULL : Py_NewRef(found);
    return *result != NULL ? 1 : found == NULL ? -1 : 0;
}
#endif

/* PyVectorcall_Function(), inline. */
static inline vectorcallfunc pyhoop_vectorcall_of(PyObject *callable) {
    PyTypeObject *type = Py_TYPE(callable);
    if (!PyType_HasFeature(type, Py_TPFLAGS_HAVE_VECTORCALL))
        return NULL;
    return *(vectorcallfunc *)(void *)((char *)callable + type->tp_vectorcall_offset);
}

/* 3.14: call_soon_threadsafe returns a handle whose cancel waits for a running callback. */
#if PY_VERSION_HEX >= 0x030E0000
#define PYHOOP_HAS_THREADSAFE_HANDLE 1
#define PYHOOP_THREADSAFE_HANDLE_NAME "_ThreadSafeHandle"
#else
#define PYHOOP_HAS_THREADSAFE_HANDLE 0
#define PYHOOP_THREADSAFE_HANDLE_NAME "Handle"
#endif

/* What asyncio counts for a queued datagram beside its bytes. */
#if PY_VERSION_HEX >= 0x030D0000
#define PYHOOP_DATAGRAM_HEADER_SIZE 8
#else
#define PYHOOP_DATAGRAM_HEADER_SIZE 0
#endif

/* What inspect.signature() says of create_task: as asyncio's. */
#if PY_VERSION_HEX >= 0x030E0000
#define PYHOOP_CREATE_TASK_SIGNATURE "create_task($self, coro, **kwargs)"
#else
#define PYHOOP_CREATE_TASK_SIGNATURE "create_task($self, coro, *, name=None, context=None)"
#endif

/* 3.12: an exception is an object from the start, and `await` sees a StopIteration for each value. */
#if PY_VERSION_HEX >= 0x030C0000
#define PYHOOP_REUSES_STOP_ITERATION 1
#else
#define PYHOOP_REUSES_STOP_ITERATION 0
#endif

/* Without the GIL, nothing is recycled: a free list would be every thread's. */
#ifdef Py_GIL_DISABLED
#define PYHOOP_FREE_THREADED 1
#else
#define PYHOOP_FREE_THREADED 0
#endif

/* asyncio's words for what a transport can't write. */
#if PY_VERSION_HEX >= 0x030e0000
#define PYHOOP_NO_BYTES "data argument must be a bytes, bytearray, or memoryview object"
#else
#define PYHOOP_NO_BYTES "data argument must be a bytes-like object"
#endif

#endif
