# SPDX-License-Identifier: MIT
"""Two tasks that overlap

`gather` starts both tasks. While one of them sleeps the loop runs the other, so together
they take as long as the slower one, not as long as both.
"""

import asyncio
import time

import hoop


async def prepare(what: str, seconds: float) -> str:
    print(f"{what}: started")
    await asyncio.sleep(seconds)
    print(f"{what}: ready after {seconds} s")
    return what


async def main() -> None:
    began = time.perf_counter()
    breakfast = await asyncio.gather(prepare("coffee", 0.3), prepare("toast", 0.2))
    took = time.perf_counter() - began
    print(f"{' and '.join(breakfast)}: {took:.1f} s together, 0.5 s one after the other")


if __name__ == "__main__":
    hoop.run(main())
