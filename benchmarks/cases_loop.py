# SPDX-License-Identifier: MIT
"""The cases that need no network: callbacks, timers, tasks, start and stop, punctuality.

Run as a program it measures one case on one loop in this process and prints JSON; run.py does
that once per loop and round:

    cases_loop.py CASE LOOP [--quick] [--other-core N]

A measurement is repeated; its value is the smallest repetition (what disturbs a repetition only
ever makes it slower), its median is reported beside it. Unless the case says otherwise a repetition
is the CPU time of the whole process, all threads, divided by the number of operations.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import cprograms
import loops

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]
Result = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How long to measure, and the core for a helper process that must not disturb."""

    quick: bool
    other_core: int

    @property
    def repetitions(self) -> int:
        """How often a body is repeated."""
        return 3 if self.quick else 7


Measure = Callable[[LoopFactory, Settings], Result]


@dataclass(frozen=True)
class LoopCase:
    """One case: `measure(loop_factory, settings)` returns value, median and perhaps more, in ns."""

    name: str
    title: str
    unit: str
    measure: Measure


def repeat(body: Callable[[], int], repetitions: int) -> Result:
    """Call `body`, which returns its number of operations; return ns of CPU per operation."""
    body()
    cpu: list[float] = []
    wall: list[float] = []
    for _ in range(repetitions):
        cpu_before, wall_before = time.process_time_ns(), time.perf_counter_ns()
        operations = body()
        cpu.append((time.process_time_ns() - cpu_before) / operations)
        wall.append((time.perf_counter_ns() - wall_before) / operations)
    return {
        "value": min(cpu),
        "median": statistics.median(cpu),
        "wall": min(wall),
    }


def on_loop(prepare: Callable[[Loop], Callable[[], int]]) -> Measure:
    """Make a `measure` out of a function that takes a loop and returns the body to repeat."""

    def measure(new_loop: LoopFactory, settings: Settings) -> Result:
        loop = new_loop()
        asyncio.set_event_loop(loop)
        try:
            return repeat(prepare(loop), settings.repetitions)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    return measure


def in_task(make: Callable[[], Coroutine[Any, Any, None]], operations: int) -> Measure:
    """Make a `measure` of a coroutine, made anew and run to its end in each repetition."""

    def prepare(loop: Loop) -> Callable[[], int]:
        def body() -> int:
            loop.run_until_complete(make())
            return operations

        return body

    return on_loop(prepare)


def nothing() -> None:
    """The callback that does nothing."""


async def nothing_async() -> None:
    """The coroutine that does nothing."""


def call_soon_chain(loop: Loop, links: int = 50_000) -> Callable[[], int]:
    """A callback that schedules itself: one callback an iteration."""
    call_soon = loop.call_soon

    def body() -> int:
        left = links

        def link() -> None:
            nonlocal left
            left -= 1
            if left:
                call_soon(link)
            else:
                loop.stop()

        loop.call_soon(link)
        loop.run_forever()
        return links

    return body


def call_soon_burst(loop: Loop, bursts: int = 100, size: int = 1000) -> Callable[[], int]:
    """A thousand callbacks scheduled at once, then run in one iteration."""
    call_soon = loop.call_soon

    def body() -> int:
        left = bursts

        def burst() -> None:
            nonlocal left
            if not left:
                loop.stop()
                return
            left -= 1
            for _ in range(size):
                call_soon(nothing)
            call_soon(burst)

        loop.call_soon(burst)
        loop.run_forever()
        return bursts * size

    return body


def timer_cancel(loop: Loop, live: int = 100_000, batches: int = 120) -> Callable[[], int]:
    """call_later(30) and cancel at once, beside 100,000 timers due in 10 to 100 s."""
    call_later = loop.call_later
    delays = random.Random(1)
    timers = [call_later(delays.uniform(10, 100), nothing) for _ in range(live)]
    size = 1000

    def body() -> int:
        assert len(timers) == live
        left = batches

        def batch() -> None:
            nonlocal left
            if not left:
                loop.stop()
                return
            left -= 1
            for _ in range(size):
                call_later(30, nothing).cancel()
            loop.call_soon(batch)

        loop.call_soon(batch)
        loop.run_forever()
        return batches * size

    return body


def timers_fired(loop: Loop, count: int = 10_000) -> Callable[[], int]:
    """Arm 10,000 timers, in no order, wait until all are due, then let them fire."""
    call_later = loop.call_later
    source = random.Random(1)
    delays = [source.uniform(0.001, 0.002) for _ in range(count)]

    def body() -> int:
        left = count

        def fire() -> None:
            nonlocal left
            left -= 1
            if not left:
                loop.stop()

        def arm() -> None:
            for delay in delays:
                call_later(delay, fire)
            time.sleep(0.004)

        loop.call_soon(arm)
        loop.run_forever()
        return count

    return body


async def sleep_zero(tasks: int, rounds: int) -> None:
    """`await asyncio.sleep(0)` in so many tasks."""

    async def sleeper() -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)

    await asyncio.gather(*[sleeper() for _ in range(tasks)])


async def future_ping_pong(rounds: int) -> None:
    """Two tasks wake each other through a new future each time."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]

    async def play(me: int, other: int) -> None:
        for _ in range(rounds):
            await futures[me]
            futures[me] = loop.create_future()
            futures[other].set_result(None)

    futures[0].set_result(None)
    await asyncio.gather(play(0, 1), play(1, 0))


async def queue_ping_pong(rounds: int) -> None:
    """Two tasks hand an item to and fro through two queues."""
    ping: asyncio.Queue[int] = asyncio.Queue()
    pong: asyncio.Queue[int] = asyncio.Queue()

    async def play(source: asyncio.Queue[int], target: asyncio.Queue[int]) -> None:
        for _ in range(rounds):
            target.put_nowait(await source.get())

    ping.put_nowait(0)
    await asyncio.gather(play(ping, pong), play(pong, ping))


async def gather_many(times: int, size: int) -> None:
    """gather() of coroutines that return at once."""
    for _ in range(times):
        await asyncio.gather(*[nothing_async() for _ in range(size)])


def reader_pair(loop: Loop, times: int = 20_000) -> Callable[[], int]:
    """add_reader and remove_reader of a socket, as clients that wait by hand do per operation."""
    pair = socket.socketpair()

    def body() -> int:
        descriptor = pair[0].fileno()  # rloop takes nothing else
        for _ in range(times):
            loop.add_reader(descriptor, nothing)
            loop.remove_reader(descriptor)
        return times

    return body


async def resolve_numeric(times: int) -> None:
    """Resolve an address that is numeric already."""
    loop = asyncio.get_running_loop()
    for _ in range(times):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


def run_nothing(new_loop: LoopFactory, settings: Settings) -> Result:
    """asyncio.run of a coroutine that does nothing: loop made, used and closed."""
    times = 200

    def body() -> int:
        for _ in range(times):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(nothing_async())
        return times

    return repeat(body, settings.repetitions)


def run_until_complete_nothing(loop: Loop, times: int = 3000) -> Callable[[], int]:
    """run_until_complete of a coroutine that does nothing, again and again on one loop."""

    def body() -> int:
        for _ in range(times):
            loop.run_until_complete(nothing_async())
        return times

    return body


def percentile(sorted_values: list[float], share: float) -> float:
    """Return the value below which that share of the sorted values lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def ready_latency(new_loop: LoopFactory, settings: Settings) -> Result:
    """How long a readable descriptor waits for its reader beside a busy call_soon chain.

    A process on another core writes its clock into a pipe. A wait during which the kernel gave
    this thread's core to somebody else says nothing about the loop and is left out.
    """
    count = 1000 if settings.quick else 4000
    loop = new_loop()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    call_soon = loop.call_soon
    waits: list[float] = []
    seen = previous = left_out = 0

    def preemptions() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw

    def on_readable() -> None:
        nonlocal seen, previous, left_out
        before = preemptions()
        try:
            stamps = memoryview(os.read(reader, 4096)).cast("q")
        except BlockingIOError:  # rloop may call a reader twice for one readiness
            return
        now = time.monotonic_ns()
        if previous == before == preemptions():
            waits.extend(now - stamp for stamp in stamps)
        else:
            left_out += len(stamps)
        previous = before
        seen += len(stamps)
        if seen >= count:
            loop.stop()

    def link() -> None:
        call_soon(link)

    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {settings.other_core})
    ticker = subprocess.Popen([cprograms.TICKER, str(count)], stdout=writer)
    os.sched_setaffinity(0, own)
    loop.add_reader(reader, on_readable)
    call_soon(link)
    loop.run_forever()
    loop.remove_reader(reader)
    ticker.wait()
    waits.sort()
    middle = statistics.median(waits)
    return {
        "value": percentile(waits, 0.99),
        "median": middle,
        "max": waits[-1],
        "left_out": left_out,
        "note": f"median {middle / 1000:.1f}, max {waits[-1] / 1000:.0f} us",
    }


def sleep_lateness(new_loop: LoopFactory, settings: Settings) -> Result:
    """How much later than asked `sleep(0.0005)` returns on an idle loop; the median in ns."""
    count = 200 if settings.quick else 600
    asked_ns = 500_000
    lateness: list[float] = []

    async def sleeper() -> None:
        for _ in range(count):
            before = time.monotonic_ns()
            await asyncio.sleep(asked_ns / 1e9)
            lateness.append(time.monotonic_ns() - before - asked_ns)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(sleeper())
    lateness.sort()
    early = sum(late < 0 for late in lateness)
    result: Result = {
        "value": statistics.median(lateness),
        "earliest": lateness[0],
        "p99": percentile(lateness, 0.99),
        "note": f"p99 {percentile(lateness, 0.99) / 1000:.0f} us",
    }
    if early:
        result["wrong"] = (
            f"woke early {early} of {count} times, by up to {-lateness[0] / 1e3:.0f} us"
        )
    return result


async def spawn_children(count: int) -> int:
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
    return count


def spawn(loop_factory: LoopFactory, settings: Settings) -> Result:
    """Time by the clock to start a child and see it exit, one after the other."""
    wall: list[float] = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(spawn_children(50))
        for _ in range(settings.repetitions):
            before = time.perf_counter_ns()
            operations = runner.run(spawn_children(100))
            wall.append((time.perf_counter_ns() - before) / operations)
    return {"value": min(wall), "median": statistics.median(wall)}


CASES = [
    LoopCase("call_soon-chain", "call_soon, a chain", "ns", on_loop(call_soon_chain)),
    LoopCase("call_soon-burst", "call_soon, bursts of 1000", "ns", on_loop(call_soon_burst)),
    LoopCase("timer-cancel", "call_later + cancel, 100k live", "ns", on_loop(timer_cancel)),
    LoopCase("timers-fired", "10k timers armed and fired", "ns", on_loop(timers_fired)),
    LoopCase("sleep0", "sleep(0), one task", "ns", in_task(lambda: sleep_zero(1, 30_000), 30_000)),
    LoopCase(
        "sleep0-100", "sleep(0), 100 tasks", "ns", in_task(lambda: sleep_zero(100, 500), 50_000)
    ),
    LoopCase(
        "future-ping-pong",
        "future ping-pong",
        "ns",
        in_task(lambda: future_ping_pong(10_000), 20_000),
    ),
    LoopCase(
        "queue-ping-pong", "queue ping-pong", "ns", in_task(lambda: queue_ping_pong(10_000), 20_000)
    ),
    LoopCase("gather-1000", "gather of 1000", "ns", in_task(lambda: gather_many(20, 1000), 20_000)),
    LoopCase("run-nothing", "asyncio.run of nothing", "us", run_nothing),
    LoopCase(
        "run_until_complete-nothing",
        "run_until_complete of nothing",
        "us",
        on_loop(run_until_complete_nothing),
    ),
    LoopCase("reader-pair", "add_reader + remove_reader", "ns", on_loop(reader_pair)),
    LoopCase(
        "getaddrinfo-numeric",
        "getaddrinfo of a numeric host",
        "ns",
        in_task(lambda: resolve_numeric(2000), 2000),
    ),
    LoopCase("spawn", "child started and waited for", "us", spawn),
    LoopCase("ready-latency", "ready fd beside a busy chain, p99", "us", ready_latency),
    LoopCase("sleep-lateness", "sleep(0.0005) late by, median", "us", sleep_lateness),
]
"""`unit` is what reports show; measurements are in nanoseconds throughout."""


def main() -> None:
    """Measure the case and loop named on the command line and print the result as JSON."""
    parser = argparse.ArgumentParser(description="Measure one case on one loop.")
    parser.add_argument("case", choices=[case.name for case in CASES])
    parser.add_argument("loop", choices=loops.FACTORIES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--other-core", type=int, default=0)
    args = parser.parse_args()
    case = next(case for case in CASES if case.name == args.case)
    settings = Settings(args.quick, args.other_core)
    print(json.dumps(case.measure(loops.factory(args.loop), settings)))


if __name__ == "__main__":
    main()
