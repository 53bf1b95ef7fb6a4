# SPDX-License-Identifier: MIT
"""Running a program on a hoop loop: `hoop.run` and `hoop.loop_factory`."""

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeAlias, TypeVar, Unpack

from hoop._loop import Loop, LoopOptions

_T = TypeVar("_T")

if sys.version_info >= (3, 14):
    Main: TypeAlias = Awaitable[_T]
else:
    Main: TypeAlias = Coroutine[Any, Any, _T]


class LoopFactory:
    """Makes a `hoop.Loop` with the same options at each call.

    An instance is not a descriptor, so it can be a class attribute
    (`IsolatedAsyncioTestCase.loop_factory`), and it pickles when its options do.
    """

    def __init__(self, **options: Unpack[LoopOptions]) -> None:
        known = LoopOptions.__required_keys__ | LoopOptions.__optional_keys__
        for name in options:
            if name not in known:
                raise TypeError(
                    f"unexpected loop option {name!r}; the options are {', '.join(sorted(known))}"
                )
        self._options = options

    def __call__(self) -> Loop:
        return Loop(**self._options)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"hoop.loop_factory({options})"


def loop_factory(**options: Unpack[LoopOptions]) -> LoopFactory:
    """Return a callable that makes loops with these options.

    For whatever takes a *loop_factory*: `asyncio.Runner`, `asyncio.run` (3.12),
    `unittest.IsolatedAsyncioTestCase` (3.13). The options are those of `hoop.Loop`.

    Raises TypeError, naming it, for an option that does not exist.
    """
    return LoopFactory(**options)


def run(main: Main[_T], **loop_options: Unpack[LoopOptions]) -> _T:
    """Run `main` on a new hoop loop, close the loop and return the result.

    Counterpart of `asyncio.run`, with its semantics and its errors: the loop's tasks are
    cancelled, its asynchronous generators closed and its default executor shut down at
    the end, and Ctrl-C cancels `main`, then raises KeyboardInterrupt. `main` is a
    coroutine; from Python 3.14 on, any awaitable. The options are those of `hoop.Loop`;
    `debug=True` or `debug=False` sets debug mode, without it the environment decides.

    Raises RuntimeError when called while a loop runs in this thread.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(loop_factory=LoopFactory(**loop_options)) as runner:
        return runner.run(main)
