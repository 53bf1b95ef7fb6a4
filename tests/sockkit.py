# SPDX-License-Identifier: MIT
"""What the tests of the loop's socket methods share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

BIG = 4_000_000
"""Bytes that no socket's buffers take."""


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def waiting(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has begun and waits."""
    task = asyncio.create_task(coroutine)
    await turns()
    assert not task.done()
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def fill(sock: socket.socket) -> int:
    """Send until the kernel refuses."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += sock.send(bytes(65536))
    with contextlib.suppress(BlockingIOError):
        while True:
            count += sock.send(b"x")
    return count


def drain(sock: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1_000_000):
            count += len(data)
    return count


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that must not wait."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


def readers_of(loop: Any) -> set[int]:
    """The descriptors that something is waited for on, but for the loop's own."""
    return set(loop._selector.get_map()) - {loop._ssock.fileno() if loop._ssock else -1}
