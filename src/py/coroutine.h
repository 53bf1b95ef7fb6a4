/* SPDX-License-Identifier: MIT
 *
 * coroutine: methods of the loop that are coroutine functions to who looks.
 *
 * A type of callables in C that stand for a coroutine function of asyncio's:
 * inspect.iscoroutinefunction() is true of them, inspect.signature() shows the
 * running Python's own, and loops find them as methods.
 *
 * Layer: py, over operation. Owns: the coroutine function it stands for, which
 *   gets every call that is not the plain one: keywords, wrong counts, debug mode
 *   (where coroutines remember their origin).
 */
#ifndef HOOP_PY_COROUTINE_H
#define HOOP_PY_COROUTINE_H

#include "py/compat.h"
#include "py/state.h"

extern PyType_Spec pyhoop_coroutine_function_spec;

/* Gives the loop type its socket operations. */
int pyhoop_coroutines_add(struct pyhoop_state *state);

#endif
