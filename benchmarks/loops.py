# SPDX-License-Identifier: MIT
"""The loops that are compared, by name.

`python loops.py NAME` makes one, runs a coroutine on it and prints the version; run.py uses that
to find out in a process of its own which loops work here.
"""

import asyncio
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable

HOOP = "hoop"
REFERENCE = "uvloop"

FACTORIES = {
    "asyncio": "asyncio:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
    "rloop": "rloop:new_event_loop",
    "blazio": "blazio:new_event_loop",
    "veloxloop": "veloxloop:new_event_loop",
    "loopmini": "loopmini:new_event_loop",
    "talyn": "talyn:Loop",
    "zuvloop": "zuvloop:new_event_loop",
    HOOP: "hoop:new_event_loop",
}
"""`module:attribute` of a callable that takes nothing and returns a new loop."""

LIMIT = "c-pycall"
LIMITS = ("c-epoll", LIMIT)
"""Not loops: the C servers that bound the echo cases (c/echo.c and c/pycall_echo.c)."""


def factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the loop factory of that name; ImportError if it is not installed."""
    module, _, attribute = FACTORIES[name].partition(":")
    result: Callable[[], asyncio.AbstractEventLoop] = getattr(
        importlib.import_module(module), attribute
    )
    return result


def version(name: str) -> str:
    """Return the installed version of a loop's distribution."""
    if name == "asyncio":
        return platform.python_version()
    return importlib.metadata.version(name)


def main() -> None:
    """Run one coroutine on the loop named on the command line and print its version."""
    name = sys.argv[1]
    with asyncio.Runner(loop_factory=factory(name)) as runner:
        runner.run(asyncio.sleep(0.001))
    print(version(name))


if __name__ == "__main__":
    main()
