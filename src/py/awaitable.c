/* SPDX-License-Identifier: MIT */
#include "py/awaitable.h"

static bool refuse(PyObject *type, const char *message) {
    PyErr_SetString(type, message);
    return false;
}

bool pyhoop_await_may_close(enum pyhoop_await_state state) {
    return state != PYHOOP_AWAIT_RUNNING || refuse(PyExc_ValueError, "coroutine already executing");
}

bool pyhoop_await_may_send(enum pyhoop_await_state state, PyObject *value) {
    if (!pyhoop_await_may_close(state))
        return false;
    if (state == PYHOOP_AWAIT_FINISHED)
        return refuse(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return state != PYHOOP_AWAIT_NEW || value == Py_None ||
           refuse(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
}

static PyObject *value_of(PyObject *const *args, Py_ssize_t nargs) {
    return nargs > 1 && args[1] != Py_None ? args[1] : NULL;
}

bool pyhoop_await_may_throw(PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 3)
        return refuse(PyExc_TypeError, "throw() takes 1 to 3 arguments");
    if (nargs == 3 && args[2] != Py_None && !PyTraceBack_Check(args[2]))
        return refuse(PyExc_TypeError, "throw() third argument must be a traceback object");
    if (PyExceptionClass_Check(args[0]))
        return true;
    if (!PyExceptionInstance_Check(args[0])) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
        return false;
    }
    return value_of(args, nargs) == NULL ||
           refuse(PyExc_TypeError, "instance exception may not have a separate value");
}

void pyhoop_await_raise(PyObject *const *args, Py_ssize_t nargs) {
    if (PyExceptionClass_Check(args[0]))
        PyErr_SetObject(args[0], value_of(args, nargs));
    else
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    if (nargs < 3 || args[2] == Py_None)
        return;
    PyObject *exception = PyErr_GetRaisedException();
    (void)PyException_SetTraceback(exception, args[2]); /* it is one */
    PyErr_SetRaisedException(exception);
}

PyObject *pyhoop_await_throw_into(PyObject *inner, PyObject *name, PyObject *const *args,
                                  Py_ssize_t nargs) {
    PyObject *stack[4] = {inner};
    for (Py_ssize_t i = 0; i < nargs; i++)
        stack[1 + i] = args[i];
    return PyObject_VectorcallMethod(name, stack, (size_t)nargs + 1, NULL);
}

PyObject *pyhoop_await_stop(PyObject *value) {
    /* PyErr_SetObject unpacks a tuple, and takes an exception for the one to raise. */
    bool is_taken_apart = PyTuple_Check(value) || PyExceptionInstance_Check(value);
    PyObject *stop = is_taken_apart ? PyObject_CallOneArg(PyExc_StopIteration, value) : NULL;
    if (!is_taken_apart)
        PyErr_SetObject(PyExc_StopIteration, value);
    else if (stop != NULL)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    Py_DECREF(value);
    return NULL;
}

void pyhoop_await_warn(PyObject *op, PyObject *qualname) {
    if (qualname == NULL || PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                                             "coroutine '%.50S' was never awaited", qualname) < 0)
        PyErr_WriteUnraisable(op);
}
