# SPDX-License-Identifier: MIT
"""The life of a loop, first made for you, then by hand

`hoop.run` makes a loop, runs one coroutine on it and closes it; inside, the loop is found
with `asyncio.get_running_loop`. A loop made with `hoop.new_event_loop` is yours: you run
it as often as you like, and you close it.
"""

import asyncio

import hoop


async def running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    print(f"inside a coroutine: running={loop.is_running()} closed={loop.is_closed()}")
    return loop


def made_by_run() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        print(f"outside a coroutine: {error}")
    loop = hoop.run(running_loop())
    print(f"after hoop.run: running={loop.is_running()} closed={loop.is_closed()}")


def made_by_hand() -> None:
    loop = hoop.new_event_loop()
    print(f"a new loop: running={loop.is_running()} closed={loop.is_closed()}")
    asyncio.set_event_loop(loop)
    try:
        print(f"the current loop of this thread is ours: {asyncio.get_event_loop() is loop}")
        first = loop.run_until_complete(running_loop())
        second = loop.run_until_complete(running_loop())
        print(f"run twice on the same loop: {first is second is loop}")
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    print(f"after close: running={loop.is_running()} closed={loop.is_closed()}")
    try:
        loop.call_soon(print, "never printed")
    except RuntimeError as error:
        print(f"using it now: {error}")


if __name__ == "__main__":
    made_by_run()
    made_by_hand()
