# SPDX-License-Identifier: MIT
"""Socket methods that wait: cancelled, several on one descriptor, numbers used again, stress."""

import asyncio
import contextlib
import errno
import os
import random
import socket
import sys

import pytest
from loopkit import Recorder, connection, listener
from sockkit import BIG, cancelled, drain, fill, readers_of, step, turns, waiting


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def listening():
    with listener("tcp") as sock:
        sock.setblocking(False)
        yield sock


# ---- cancelling ----


async def test_cancelled_receive_has_taken_nothing(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_recv(left, 100))
    await cancelled(task)
    assert not readers_of(loop)
    right.send(b"data")
    assert await loop.sock_recv(left, 100) == b"data"


@pytest.mark.stock_fails("has received by then, and loses it")
@pytest.mark.parametrize("method", ["sock_recv", "sock_recvfrom"])
async def test_cancelled_between_readiness_and_its_step(loop, pair, method):
    left, right = pair
    task = await waiting(getattr(loop, method)(left, 100))
    loop.add_reader(left, lambda: (task.cancel(), loop.remove_reader(left)))
    right.send(b"data")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left.recv(100) == b"data"


async def test_cancelled_accept_has_taken_nothing(loop, listening):
    for _ in range(20):
        task = await waiting(loop.sock_accept(listening))
        with socket.create_connection(listening.getsockname()) as client:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server, address = await loop.sock_accept(listening)
            server.close()
            assert address == client.getsockname()


async def test_cancelled_send_ends(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_sendall(left, bytes(BIG)))
    await cancelled(task)
    assert not readers_of(loop)
    count = drain(right)
    await turns(5)
    assert drain(right) == 0
    assert 0 < count < BIG
    await loop.sock_sendall(left, b"next")
    assert right.recv(100) == b"next"


async def test_timeouts(loop, pair):
    left, right = pair
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(left, 10), 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await loop.sock_recv_into(left, bytearray(10))
    fill(left)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.sock_sendall(left, b"xyz"), 0.001)
    assert not readers_of(loop)
    drain(right)
    right.send(b"data")
    assert await asyncio.wait_for(loop.sock_recv(left, 10), 10) == b"data"


def test_no_future_to_wait_for(loop_factory, pair):
    """The operation fails, and nothing stays behind."""
    left, right = pair
    loop = loop_factory()

    def refuse():
        raise MemoryError("none left")

    loop.create_future = refuse
    operation = loop.sock_recv(left, 10)
    with pytest.raises(MemoryError, match="none left"):
        operation.send(None)
    assert not readers_of(loop)
    del loop.create_future
    right.send(b"x")
    assert step(loop.sock_recv(left, 10)) == b"x"


# ---- several on one descriptor ----


async def test_reader_and_writer_wait_on_one_socket(loop, pair):
    left, right = pair
    for _ in range(3):
        size = fill(left)
        receive = await waiting(loop.sock_recv(left, 10))
        send = await waiting(loop.sock_sendall(left, b"end"))
        right.send(b"in")
        assert await receive == b"in"
        await turns()
        assert not send.done()
        receive = await waiting(loop.sock_recv(left, 10))
        while size:
            size -= len(await loop.sock_recv(right, min(size, 100_000)))
        await send
        assert not receive.done()
        right.send(b"more")
        assert await receive == b"more"
        assert await loop.sock_recv(right, 100) == b"end"


@pytest.mark.stock_fails("the second takes the place of the first, which waits for ever")
async def test_several_wait_for_the_same(loop, pair, listening):
    left, right = pair
    tasks = [await waiting(loop.sock_recv(left, 1)) for _ in range(5)]
    right.send(b"ab")
    assert [await task for task in tasks[:2]] == [b"a", b"b"]
    await turns()
    assert not any(task.done() for task in tasks[2:])
    await cancelled(tasks[2])
    right.send(b"cd")
    assert [await task for task in tasks[3:]] == [b"c", b"d"]
    accepting = [await waiting(loop.sock_accept(listening)) for _ in range(4)]
    clients = [socket.create_connection(listening.getsockname()) for _ in range(4)]
    for server, _ in await asyncio.gather(*accepting):
        server.close()
    for client in clients:
        client.close()


@pytest.mark.stock_fails("add_reader takes the place of sock_recv, which waits for ever")
async def test_callbacks_beside_operations(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_recv(left, 1))
    seen = []
    loop.add_reader(left, seen.append, 1)
    right.send(b"a")
    assert await task == b"a"
    await turns()
    loop.add_writer(left, seen.append, 2)
    while 2 not in seen:
        await asyncio.sleep(0)
    assert 1 in seen
    task = await waiting(loop.sock_recv(left, 1))
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is True
    await turns()
    right.send(b"b")
    assert await task == b"b"
    assert not readers_of(loop)


async def test_a_callback_after_operations_is_level_triggered(loop, pair):
    left, right = pair
    for _ in range(2):
        task = await waiting(loop.sock_recv(left, 10))
        right.send(b"x")
        await task
    right.send(b"unread")
    await turns(5)
    count = []
    loop.add_reader(left, count.append, 1)
    await turns(30)
    assert len(count) > 5
    loop.remove_reader(left)
    assert await loop.sock_recv(left, 10) == b"unread"
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    assert await task == b"x"


async def test_a_callback_beside_an_operation_stays_level_triggered(loop, pair):
    left, right = pair
    size = fill(left)
    count = []
    loop.add_reader(left, count.append, 1)
    task = await waiting(loop.sock_sendall(left, b"end"))
    while size:
        size -= len(await loop.sock_recv(right, min(size, 100_000)))
    await task
    right.send(b"unread")
    await turns(30)
    assert len(count) > 5
    assert loop.remove_reader(left)
    assert not readers_of(loop)


# ---- descriptors that end, and numbers that are used again ----


async def test_closed_socket(loop, pair):
    left, _ = pair
    left.close()
    for operation in (
        loop.sock_recv(left, 10),
        loop.sock_recv_into(left, bytearray(1)),
        loop.sock_recvfrom(left, 10),
        loop.sock_recvfrom_into(left, bytearray(1)),
        loop.sock_sendall(left, b"x"),
        loop.sock_connect(left, "nowhere"),
        loop.sock_accept(left),
    ):
        with pytest.raises(OSError) as caught:
            await operation
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("how", ["between", "while waiting"])
@pytest.mark.stock_fails("FileNotFoundError from its selector")
async def test_number_used_again(loop, how):
    """uvloop#653: whoever gets the number works, and the old waiter hears that it is over."""
    old, peer = socket.socketpair()
    old.setblocking(False)
    number = old.fileno()
    task = await waiting(loop.sock_recv(old, 10))
    if how == "between":
        peer.send(b"x")
        assert await task == b"x"
    old.close()
    left, right = socket.socketpair()
    with peer, left, right:
        assert left.fileno() == number
        left.setblocking(False)
        again = await waiting(loop.sock_recv(left, 10))
        right.send(b"new")
        assert await again == b"new"
        if how == "while waiting":
            with pytest.raises(OSError) as caught:
                await task
            assert caught.value.errno == errno.EBADF


@pytest.mark.stock_fails("FileNotFoundError from its selector")
async def test_number_used_again_by_a_callback(loop):
    old, peer = socket.socketpair()
    old.setblocking(False)
    number = old.fileno()
    task = await waiting(loop.sock_recv(old, 10))
    old.close()
    left, right = socket.socketpair()
    with peer, left, right:
        assert left.fileno() == number
        left.setblocking(False)
        seen = asyncio.Event()
        loop.add_reader(left, seen.set)
        with pytest.raises(OSError):
            await task
        again = await waiting(loop.sock_recv(left, 10))
        right.send(b"new")
        await seen.wait()
        assert await again == b"new"
        assert loop.remove_reader(left)


async def test_object_made_again_for_a_descriptor(loop, pair):
    """detach() and socket(fileno=) keep the descriptor; a second object beside the first too."""
    left, right = pair
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    await task
    again = socket.socket(fileno=left.detach())
    again.setblocking(False)
    with again:
        task = await waiting(loop.sock_recv(again, 10))
        right.send(b"y")
        assert await task == b"y"
        twin = socket.socket(fileno=again.fileno())
        twin.setblocking(False)
        fill(again)
        sending = await waiting(loop.sock_sendall(again, b"end"))
        task = await waiting(loop.sock_recv(twin, 10))
        await turns(5)
        right.send(b"z")
        assert await task == b"z"
        await cancelled(sending)
        twin.detach()


async def test_closed_while_a_copy_lives(loop, pair):
    """The registration that stays behind in the kernel neither spins nor disturbs."""
    left, right = pair
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    await task
    with left.dup() as copy:
        copy.setblocking(False)
        left.close()
        task = await waiting(loop.sock_recv(copy, 10))
        right.send(b"y")
        assert await task == b"y"


@pytest.mark.stock_fails("FileNotFoundError from its selector, and a waiter that waits for ever")
async def test_transport_on_a_number_that_was_waited_for(loop):
    old, peer = socket.socketpair()
    old.setblocking(False)
    number = old.fileno()
    task = await waiting(loop.sock_recv(old, 10))
    old.close()
    left, right = socket.socketpair()
    with peer, right:
        assert left.fileno() == number
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        right.send(b"hello")
        assert await protocol.received(5) == b"hello"
        with pytest.raises(OSError):
            await task
        transport.close()
        await protocol.seen("connection_lost")
        await turns()


async def test_descriptor_of_a_transport(loop):
    async with connection("tcp", "client", Recorder) as (transport, protocol, peer):
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        sock.close()
        raw = transport.get_extra_info("socket")._sock
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(raw, 10)
        peer.send(b"x")
        assert await protocol.received(1) == b"x"


# ---- stress ----


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_random_cancellations_lose_nothing(loop, kind):
    """A stream of numbered bytes through receives that are cancelled at random points."""
    rng = random.Random(7)
    size = 400_000
    data = rng.randbytes(size)
    with listener(kind) as listening:
        client = socket.socket(listening.family)
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        server = listening.accept()[0]
    server.setblocking(False)

    async def send():
        position = 0
        while position < size:
            step_size = rng.randrange(1, 3000)
            await loop.sock_sendall(client, data[position : position + step_size])
            position += step_size
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)

    received = bytearray()

    async def receive():
        if rng.random() < 0.5:
            received.extend(await loop.sock_recv(server, rng.randrange(1, 5000)))
        else:
            buffer = bytearray(rng.randrange(1, 5000))
            received.extend(buffer[: await loop.sock_recv_into(server, buffer)])

    with client, server:
        sender = asyncio.create_task(send())
        while len(received) < size:
            task = asyncio.create_task(receive())
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await sender
    assert received == data


@pytest.mark.stock_fails("has received by then, and loses it")
async def test_many_connections_with_cancellations(loop, listening):
    """Accept, echo, time out and close, with numbers used again all the time."""
    rng = random.Random(3)
    rounds = 40

    async def serve(server):
        with server:
            while data := await loop.sock_recv(server, 1000):
                await loop.sock_sendall(server, data)

    async def accept():
        tasks = set()
        try:
            while True:
                server, _ = await loop.sock_accept(listening)
                tasks.add(asyncio.create_task(serve(server)))
        finally:
            await asyncio.gather(*tasks)

    async def talk(number):
        for i in range(rounds):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listening.getsockname())
                text = f"{number}-{i}-".encode() * rng.randrange(1, 100)
                await loop.sock_sendall(client, text)
                received = b""
                while len(received) < len(text):
                    task = asyncio.create_task(loop.sock_recv(client, 500))
                    await turns(rng.randrange(3))
                    if rng.random() < 0.3:
                        task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        received += await task
                assert received == text

    accepting = asyncio.create_task(accept())
    await asyncio.gather(*(talk(number) for number in range(20)))
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.stock_fails("not about it")
async def test_receiving_and_waiting_makes_no_epoll_call(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    await task
    epoll = next(
        number
        for number in os.listdir("/proc/self/fd")
        if os.readlink(f"/proc/self/fd/{number}").endswith("[eventpoll]")
    )
    with open(f"/proc/self/fdinfo/{epoll}") as file:
        assert f"tfd: {left.fileno():8d}" in file.read()
