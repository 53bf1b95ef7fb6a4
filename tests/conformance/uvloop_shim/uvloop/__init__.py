# SPDX-License-Identifier: MIT
"""What uvloop's tests import as ``uvloop``: the loop under test behind uvloop's public names.

The environment says which loop (``CONFORMANCE_LOOP``, a dotted path) and where uvloop's source is
(``CONFORMANCE_UVLOOP``), from which the submodule ``uvloop._testbase`` is taken.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]

T = TypeVar("T")

__path__.append(os.path.join(os.environ["CONFORMANCE_UVLOOP"], "uvloop"))

_module, _, _attribute = os.environ["CONFORMANCE_LOOP"].partition(":")
new_event_loop: Callable[[], asyncio.AbstractEventLoop] = getattr(
    importlib.import_module(_module), _attribute
)


def _loop_type() -> type[asyncio.AbstractEventLoop]:
    loop = new_event_loop()
    loop.close()
    return type(loop)


Loop = new_event_loop if isinstance(new_event_loop, type) else _loop_type()


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's default policy with the loop under test."""

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return new_event_loop()


def install() -> None:
    """Make the loop under test asyncio's default."""
    asyncio.set_event_loop_policy(EventLoopPolicy())


def run(
    main: Coroutine[Any, Any, T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
) -> T:
    """Run `main` as `asyncio.run` does, on the loop under test."""
    factory = loop_factory or new_event_loop
    if sys.version_info >= (3, 12):
        return asyncio.run(main, debug=debug, loop_factory=factory)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)
