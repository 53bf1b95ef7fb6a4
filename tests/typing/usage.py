# SPDX-License-Identifier: MIT
"""hoop's public names as a type checker sees them; checked by mypy, never run."""

import asyncio
import signal
import unittest
from collections.abc import Callable
from typing import assert_type

import hoop


async def main() -> int:
    return 1


assert_type(hoop.run(main()), int)
assert_type(hoop.run(main(), debug=True, name="main", slow_callback=0.05), int)
hoop.run(main(), dbug=True)  # type: ignore[call-arg]
hoop.run(main)  # type: ignore[arg-type]

factory: Callable[[], asyncio.AbstractEventLoop] = hoop.new_event_loop
factory = hoop.loop_factory(poll_every_round=True, streams=False)
with asyncio.Runner(loop_factory=hoop.new_event_loop) as runner:
    assert_type(runner.run(main()), int)


class Case(unittest.IsolatedAsyncioTestCase):
    loop_factory = hoop.new_event_loop


def created(loop: hoop.Loop) -> None:
    assert_type(loop.name, str | None)


loop = hoop.new_event_loop(on_loop_created=created)
assert_type(loop, hoop.Loop)
base: asyncio.SelectorEventLoop = loop
assert_type(loop.run_until_complete(main()), int)
assert_type(loop.create_task(main()), asyncio.Task[int])


def called(number: int) -> None: ...


assert_type(loop.call_soon(called, 1), asyncio.Handle)
assert_type(loop.call_later(0.5, called, 1), asyncio.TimerHandle)
loop.call_soon(called, "1")  # type: ignore[arg-type]
loop.add_signal_handler(signal.SIGTERM, called, "1")  # type: ignore[arg-type]


class Policy(hoop.EventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return super().new_event_loop()


hoop.install()
