# SPDX-License-Identifier: MIT
"""Three threads with a loop each

A loop belongs to the thread that runs it. Threads that each run their own do not get in
each other's way; the barrier proves that all three loops run at the same time.
"""

import asyncio
import threading

import hoop

all_running = threading.Barrier(3)
loops: dict[str, asyncio.AbstractEventLoop] = {}


async def add_up_to(limit: int) -> int:
    loops[threading.current_thread().name] = asyncio.get_running_loop()
    await asyncio.to_thread(all_running.wait)
    total = 0
    for number in range(1, limit + 1):
        await asyncio.sleep(0.01)
        total += number
    return total


def main() -> None:
    totals: dict[str, int] = {}

    def run_loop(name: str, limit: int) -> None:
        totals[name] = hoop.run(add_up_to(limit), name=name)

    limits = {"north": 3, "east": 4, "south": 5}
    threads = [
        threading.Thread(name=name, target=run_loop, args=(name, limit))
        for name, limit in limits.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        print(f"thread {thread.name}: 1 to {limits[thread.name]} add up to {totals[thread.name]}")
    print(f"{len(threads)} threads, {len(set(loops.values()))} loops")


if __name__ == "__main__":
    main()
