# SPDX-License-Identifier: MIT
"""Blocking work in threads, while the loop stays responsive

A call that blocks would stop every task of the loop, so it goes to a thread: of the
loop's default executor, or of a pool of your own with as many threads as you want. The
heartbeat is a task on the same loop; it would stop if the loop did.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import hoop


def square(number: int) -> int:
    time.sleep(0.1)  # a slow disk, a database driver without asyncio, ...
    return number * number


async def heartbeat(beats: list[float]) -> None:
    while True:
        beats.append(time.perf_counter())
        await asyncio.sleep(0.01)


async def main() -> None:
    loop = asyncio.get_running_loop()
    beats: list[float] = []
    heart = asyncio.create_task(heartbeat(beats))

    calls = [loop.run_in_executor(None, square, number) for number in range(3)]
    print(f"default executor: {await asyncio.gather(*calls)}")

    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        calls = [loop.run_in_executor(pool, square, number) for number in range(8)]
        print(f"four threads: {await asyncio.gather(*calls)}")
    took = time.perf_counter() - began
    print(f"eight calls of 0.1 s in four threads took {took:.1f} s")

    heart.cancel()
    pause = max(later - earlier for earlier, later in pairwise(beats))
    print(f"meanwhile {len(beats)} heartbeats, the longest pause {pause * 1000:.0f} ms")


if __name__ == "__main__":
    hoop.run(main())
