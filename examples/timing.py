# SPDX-License-Identifier: MIT
"""hoop and stock asyncio side by side on this machine

Each program runs on one loop, then on the other, seven times in turn after one round to
warm up; the table shows the medians, and how many times faster hoop is. All of it happens
in one thread of one process, so the echo figure is the work of both ends of the
connection: a protocol that asks, and a protocol that answers. `make bench` measures with
more care, and against more loops.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import hoop

ROUNDS = 7
MESSAGE = b"x" * 1024


async def call_soon_chain(count: int) -> None:
    """Each callback schedules the next one."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step(left: int) -> None:
        if left:
            loop.call_soon(step, left - 1)
        else:
            done.set_result(None)

    loop.call_soon(step, count - 1)
    await done


async def sleep_zero(count: int) -> None:
    """One task gives way to the loop again and again."""
    for _ in range(count):
        await asyncio.sleep(0)


class Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Ask(Answer):
    def __init__(self, count: int) -> None:
        self.left = count
        self.missing = len(MESSAGE)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        self.missing = len(MESSAGE)
        self.left -= 1
        if self.left:
            self.transport.write(MESSAGE)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


async def tcp_echo(count: int) -> None:
    """One connection, one message under way at a time."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Answer, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        _, ask = await loop.create_connection(lambda: Ask(count), *address)
        await ask.done


def seconds_each(
    program: Callable[[int], Awaitable[None]],
    count: int,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> float:
    async def timed() -> float:
        began = time.perf_counter()
        await program(count)
        return (time.perf_counter() - began) / count

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(timed())


def main() -> None:
    programs = [
        ("a callback scheduled with call_soon", call_soon_chain, 40_000),
        ("await asyncio.sleep(0)", sleep_zero, 25_000),
        ("1 KiB echoed over TCP", tcp_echo, 2_500),
    ]
    print(f"{'microseconds each':<37}{'asyncio':>9}{'hoop':>9}{'faster':>9}")
    for title, program, count in programs:
        stock: list[float] = []
        ours: list[float] = []
        for _ in range(1 + ROUNDS):
            stock.append(seconds_each(program, count, asyncio.SelectorEventLoop))
            ours.append(seconds_each(program, count, hoop.new_event_loop))
        asyncio_us = statistics.median(stock[1:]) * 1e6
        hoop_us = statistics.median(ours[1:]) * 1e6
        ratio = asyncio_us / hoop_us
        print(f"{title:<37}{asyncio_us:>9.2f}{hoop_us:>9.2f}{ratio:>8.1f}x", flush=True)


if __name__ == "__main__":
    main()
