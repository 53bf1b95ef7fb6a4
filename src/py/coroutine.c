/* SPDX-License-Identifier: MIT */
#include "py/coroutine.h"

#include <stddef.h>

#include "py/operation.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    const struct pyhoop_operation_kind *kind;
    PyObject *inherited;
    PyTypeObject *loop_type; /* of which it is a method */
} CoroutineFunctionObject;

static PyObject *function_call(PyObject *op, PyObject *const *args, size_t flagged_count,
                               PyObject *kwnames) {
    CoroutineFunctionObject *self = (CoroutineFunctionObject *)op;
    Py_ssize_t count = PyVectorcall_NARGS(flagged_count);
    bool is_plain = kwnames == NULL && count > self->kind->min_args &&
                    count <= self->kind->max_args + 1 &&
                    PyObject_TypeCheck(args[0], self->loop_type);
    LoopObject *loop = is_plain ? (LoopObject *)args[0] : NULL;
    if (!is_plain || loop->is_debug)
        return PyObject_Vectorcall(self->inherited, args, flagged_count, kwnames);
    return pyhoop_operation_new(self->kind, loop, self->inherited, args + 1, count - 1);
}

static PyObject *function_get(PyObject *op, PyObject *instance, PyObject *type) {
    (void)type;
    if (instance == NULL || instance == Py_None)
        return Py_NewRef(op);
    return PyMethod_New(op, instance);
}

/* What inspect takes a function by. */
static PyObject *get_of_inherited(PyObject *op, void *name) {
    return PyObject_GetAttrString(((CoroutineFunctionObject *)op)->inherited, name);
}

static PyObject *function_repr(PyObject *op) {
    CoroutineFunctionObject *self = (CoroutineFunctionObject *)op;
    return PyUnicode_FromFormat("<coroutine function %s of hoop.Loop>", self->kind->name);
}

static int function_traverse(PyObject *op, visitproc visit, void *arg) {
    CoroutineFunctionObject *self = (CoroutineFunctionObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->inherited);
    Py_VISIT(self->loop_type);
    return 0;
}

static int function_clear(PyObject *op) {
    CoroutineFunctionObject *self = (CoroutineFunctionObject *)op;
    Py_CLEAR(self->inherited);
    Py_CLEAR(self->loop_type);
    return 0;
}

static void function_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)function_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(CoroutineFunctionObject, vectorcall),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define SHOWN(name) {name, get_of_inherited, NULL, NULL, (void *)(uintptr_t)(name)}

static PyGetSetDef function_getset[] = {
    SHOWN("__annotations__"), SHOWN("__code__"),     SHOWN("__defaults__"),
    SHOWN("__doc__"),         SHOWN("__globals__"),  SHOWN("__kwdefaults__"),
    SHOWN("__name__"),        SHOWN("__qualname__"), {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot function_slots[] = {
    {Py_tp_dealloc, function_dealloc},
    {Py_tp_traverse, function_traverse},
    {Py_tp_clear, function_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, function_get},
    {Py_tp_repr, function_repr},
    {Py_tp_members, function_members},
    {Py_tp_getset, function_getset},
    {0, NULL},
};

PyType_Spec pyhoop_coroutine_function_spec = {
    .name = "hoop._hoop.CoroutineFunction",
    .basicsize = sizeof(CoroutineFunctionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = function_slots,
};

static int add(struct pyhoop_state *state, PyObject *base,
               const struct pyhoop_operation_kind *kind) {
    PyObject *inherited = PyObject_GetAttrString(base, kind->name);
    if (inherited == NULL)
        return -1;
    PyTypeObject *type = state->coroutine_function_type;
    CoroutineFunctionObject *self = (CoroutineFunctionObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(inherited);
        return -1;
    }
    self->vectorcall = function_call;
    self->kind = kind;
    self->inherited = inherited;
    self->loop_type = (PyTypeObject *)Py_NewRef((PyObject *)state->loop_type);
    int rc = PyObject_SetAttrString((PyObject *)state->loop_type, kind->name, (PyObject *)self);
    Py_DECREF(self);
    return rc;
}

int pyhoop_coroutines_add(struct pyhoop_state *state) {
    static const struct pyhoop_operation_kind *const kinds[] = {
        &pyhoop_sock_accept,    &pyhoop_sock_connect,  &pyhoop_sock_recv,
        &pyhoop_sock_recv_into, &pyhoop_sock_recvfrom, &pyhoop_sock_recvfrom_into,
        &pyhoop_sock_sendall,   &pyhoop_sock_sendfile, &pyhoop_sock_sendto,
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (add(state, state->asyncio_selector_loop, kinds[i]) < 0)
            return -1;
    }
    return 0;
}
