# SPDX-License-Identifier: MIT
"""The loop's socket methods: each at once and after a wait, and refused.

sock_recv, sock_recv_into, sock_recvfrom, sock_recvfrom_into, sock_sendall, sock_sendto,
sock_connect, sock_accept; sendfile is in test_sendfile.py.
"""

import array
import asyncio
import contextlib
import errno
import gc
import os
import random
import socket
import struct
import weakref

import pytest
from loopkit import listener
from sockkit import BIG, cancelled, drain, readers_of, step, turns, waiting


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["inet", "inet6"])
def udp(request):
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    with (
        socket.socket(request.param, socket.SOCK_DGRAM) as left,
        socket.socket(request.param, socket.SOCK_DGRAM) as right,
    ):
        for sock in (left, right):
            sock.setblocking(False)
            sock.bind((host, 0))
        yield left, right


@pytest.fixture
def listening():
    with listener("tcp") as sock:
        sock.setblocking(False)
        yield sock


# ---- receiving ----


def test_what_is_there_comes_without_a_turn(loop, pair):
    left, right = pair
    right.send(b"abcdefgh")
    buffer = bytearray(2)
    assert step(loop.sock_recv(left, 3)) == b"abc"
    assert step(loop.sock_recv_into(left, buffer)) == 2
    assert buffer == b"de"
    assert step(loop.sock_recvfrom(left, 1)) == (b"f", None)
    assert step(loop.sock_recvfrom_into(left, buffer)) == (2, None)
    assert buffer == b"gh"
    assert step(loop.sock_sendall(left, b"answer")) is None
    assert right.recv(100) == b"answer"
    assert not readers_of(loop)


@pytest.mark.parametrize("size", [1, 4, 100, 65536, 1_000_000])
async def test_recv_waits(loop, pair, size):
    left, right = pair
    for text in (b"one", b"two", b"six"):
        task = await waiting(loop.sock_recv(left, size))
        right.send(text)
        assert await task == text[:size]
        drain(left)
    assert not readers_of(loop)


async def test_recv_into_waits(loop, pair):
    left, right = pair
    buffer = bytearray(b"....")
    task = await waiting(loop.sock_recv_into(left, memoryview(buffer)[1:]))
    right.send(b"abcdef")
    assert await task == 3
    assert buffer == b".abc"
    items = array.array("I", [0, 0])
    assert await loop.sock_recv_into(left, items) == 3
    assert items.tobytes()[:3] == b"def"


async def test_end_of_file(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_recv(left, 10))
    right.close()
    assert await task == b""
    assert await loop.sock_recv(left, 10) == b""
    assert await loop.sock_recv_into(left, bytearray(3)) == 0


async def test_reset(loop, listening):
    with socket.create_connection(listening.getsockname()) as client:
        server, _ = await loop.sock_accept(listening)
        with server:
            task = await waiting(loop.sock_recv(server, 10))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            with pytest.raises(ConnectionResetError):
                await task


async def test_datagrams(loop, udp):
    left, right = udp
    buffer = bytearray(10)
    first = await waiting(loop.sock_recvfrom(left, 100))
    assert await loop.sock_sendto(right, b"hello", left.getsockname()) == 5
    assert await first == (b"hello", right.getsockname())
    second = await waiting(loop.sock_recvfrom_into(left, buffer))
    assert await loop.sock_sendto(right, memoryview(b"abc"), left.getsockname()) == 3
    assert await second == (3, right.getsockname())
    assert buffer[:3] == b"abc"
    third = await waiting(loop.sock_recvfrom_into(left, buffer, 2))
    await loop.sock_sendto(right, b"xyz", left.getsockname())
    assert await third == (2, right.getsockname())
    assert buffer[:3] == b"xyc"
    await loop.sock_sendto(right, b"", left.getsockname())
    assert await loop.sock_recvfrom(left, 10) == (b"", right.getsockname())


async def test_large_datagram(loop):
    """Larger than the buffer that small messages are received into."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        size = 150_000
        await loop.sock_sendall(right, b"x" * size)
        assert len(await loop.sock_recv(left, 2_000_000)) == size
        await loop.sock_sendall(right, b"x" * size)
        data, address = await loop.sock_recvfrom(left, 2_000_000)
        assert (len(data), address) == (size, None)


async def test_unix_datagrams(loop, tmp_path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as right,
    ):
        names = [str(tmp_path / "left"), f"\0hoop-sock-{os.getpid()}"]
        for sock, name in ((left, names[0]), (right, names[1])):
            sock.setblocking(False)
            sock.bind(name)
        await loop.sock_sendto(left, b"to abstract", names[1])
        assert await loop.sock_recvfrom(right, 100) == (b"to abstract", names[0])
        await loop.sock_sendto(right, b"to path", os.fsencode(names[0]))
        assert await loop.sock_recvfrom(left, 100) == (b"to path", names[1].encode())


@pytest.mark.parametrize(
    "method, args",
    [
        ("sock_recv", (-1,)),
        ("sock_recv", ("x",)),
        ("sock_recv", (None,)),
        ("sock_recv", (2**80,)),
        ("sock_recv_into", (b"readonly",)),
        ("sock_recv_into", (5,)),
        ("sock_recvfrom", (-1,)),
        ("sock_recvfrom", (1.5,)),
        ("sock_recvfrom_into", (b"readonly",)),
        ("sock_recvfrom_into", (bytearray(3), 4)),
        ("sock_recvfrom_into", (bytearray(3), -1)),
        ("sock_sendall", ("text",)),
        ("sock_sendall", (None,)),
        ("sock_sendto", ("text", ("127.0.0.1", 1))),
        ("sock_sendto", (b"x", 5)),
        ("sock_sendto", (b"x", ("127.0.0.1", 70000))),
        ("sock_sendto", (b"x", ("127.0.0.1", "http"))),
        ("sock_connect", ((),)),
        ("sock_connect", (("127.0.0.1", -1),)),
        ("sock_connect", (("::1", 1),)),
    ],
)
async def test_wrong_arguments_as_the_socket_says(loop, method, args):
    """The same class and text as the socket's own method, or as asyncio's resolver."""
    stock = asyncio.SelectorEventLoop

    async def failure(function):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(Exception) as caught:
                await function(loop, sock, *args)
            return type(caught.value), str(caught.value)

    assert await failure(getattr(type(loop), method)) == await failure(getattr(stock, method))


async def test_zero_bytes(loop, pair):
    left, _ = pair
    assert await loop.sock_recv(left, 0) == b""
    assert await loop.sock_recv_into(left, bytearray()) == 0


def test_wrong_calls_fail_at_the_call(loop, pair):
    for args in ((), (pair[0],), (pair[0], 1, 2)):
        with pytest.raises(TypeError, match="sock_recv"):
            loop.sock_recv(*args)
    with pytest.raises(TypeError, match="unexpected keyword"):
        loop.sock_recv(pair[0], size=1)


async def test_keywords(loop, pair, udp):
    left, right = pair
    await loop.sock_sendall(sock=right, data=b"abc")
    assert await loop.sock_recv(sock=left, n=10) == b"abc"
    await loop.sock_sendto(udp[0], data=b"x", address=udp[1].getsockname())
    assert (await loop.sock_recvfrom_into(udp[1], bytearray(4), nbytes=2))[0] == 1


# ---- sending ----


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"array"), memoryview(b"..view")[2:], b""],
    ids=["bytes", "bytearray", "memoryview", "empty"],
)
async def test_sendall(loop, pair, data):
    left, right = pair
    assert await loop.sock_sendall(left, data) is None
    await loop.sock_sendall(left, b"|")
    assert right.recv(100) == bytes(data) + b"|"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
async def test_sendall_waits(loop, pair, make):
    left, right = pair
    data = random.Random(1).randbytes(BIG)
    task = await waiting(loop.sock_sendall(left, make(data)))
    received = bytearray()
    while len(received) < BIG:
        received += await loop.sock_recv(right, 100_000)
    assert await task is None
    assert received == data
    assert not readers_of(loop)


@pytest.mark.stock_fails("it counts items, not bytes, and never ends")
async def test_sendall_counts_bytes(loop, pair):
    left, right = pair
    items = array.array("I", range(1000))
    await loop.sock_sendall(left, items)
    assert right.recv(10_000) == items.tobytes()
    items = array.array("Q", range(200_000))
    task = await waiting(loop.sock_sendall(left, memoryview(items)))
    received = bytearray()
    while len(received) < 1_600_000:
        received += await loop.sock_recv(right, 100_000)
    await task
    assert received == items.tobytes()


async def test_sendall_holds_the_buffer_while_it_waits(loop, pair):
    left, _ = pair
    data = bytearray(BIG)
    task = await waiting(loop.sock_sendall(left, data))
    with pytest.raises(BufferError):
        data.append(1)
    await cancelled(task)
    del task
    gc.collect()
    data.append(1)


async def test_sendall_to_a_peer_that_is_gone(loop, pair):
    left, right = pair
    task = await waiting(loop.sock_sendall(left, bytes(BIG)))
    right.close()
    with pytest.raises(OSError) as caught:
        await task
    assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendall(left, b"x")


@pytest.mark.parametrize("is_connected", [True, False])
async def test_sendto_waits_for_room(loop, is_connected):
    """Not connected, the kernel calls the socket writable all the time."""
    name = f"\0hoop-sendto-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setblocking(False)
        receiver.bind(name)
        sender.setblocking(False)
        if is_connected:
            sender.connect(name)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.sendto(b"x", name)
                count += 1
        task = await waiting(loop.sock_sendto(sender, b"late", name))
        for _ in range(count):
            assert await loop.sock_recv(receiver, 10) == b"x"
        assert await task == 4
        assert await loop.sock_recv(receiver, 10) == b"late"


async def test_sendto_by_name(loop):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as right,
    ):
        left.setblocking(False)
        right.setblocking(False)
        right.bind(("127.0.0.1", 0))
        assert await loop.sock_sendto(left, b"x", ("localhost", right.getsockname()[1])) == 1
        assert (await loop.sock_recvfrom(right, 10))[0] == b"x"


# ---- connecting and accepting ----


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connect_and_accept(loop, listening, host):
    task = await waiting(loop.sock_accept(listening))
    with socket.socket() as client:
        client.setblocking(False)
        assert await loop.sock_connect(client, (host, listening.getsockname()[1])) is None
        server, address = await task
        with server:
            assert address == client.getsockname()
            assert type(server) is socket.socket
            assert server.gettimeout() == 0
            assert not os.get_inheritable(server.fileno())
            assert (server.family, server.type, server.proto) == (
                listening.family,
                listening.type,
                listening.proto,
            )
            await loop.sock_sendall(client, b"x")
            assert await loop.sock_recv(server, 10) == b"x"
    assert not readers_of(loop)


async def test_accept_at_once(loop, listening):
    with socket.create_connection(listening.getsockname()) as client:
        server, address = step(loop.sock_accept(listening))
        server.close()
        assert address == client.getsockname()


async def test_connect_inet6(loop):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        listening.setblocking(False)
        for address in (listening.getsockname(), listening.getsockname()[:2]):
            with socket.socket(socket.AF_INET6) as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                server, peer = await loop.sock_accept(listening)
                assert peer == client.getsockname()
                assert server.family == socket.AF_INET6
                server.close()


@pytest.mark.parametrize("form", ["str", "bytes", "abstract", "abstract bytes"])
async def test_connect_unix(loop, tmp_path, form):
    path = f"\0hoop-connect-{os.getpid()}" if "abstract" in form else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(path)
        listening.listen()
        listening.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, os.fsencode(path) if "bytes" in form else path)
        server, peer = await loop.sock_accept(listening)
        with server:
            assert server.family == socket.AF_UNIX
            assert peer == ""
            await loop.sock_sendall(server, b"hello")
            assert await loop.sock_recv(client, 10) == b"hello"


async def test_connect_to_nobody(loop, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
        for target in (address, ("localhost", address[1])):
            with socket.socket() as client:
                client.setblocking(False)
                with pytest.raises(ConnectionRefusedError) as caught:
                    await loop.sock_connect(client, target)
                assert caught.value.errno == errno.ECONNREFUSED
                assert str(caught.value) == f"[Errno 111] Connect call failed {address}"
    with socket.socket(socket.AF_INET6) as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.sock_connect(client, ("::1", address[1]))
        assert str(caught.value).endswith(f"('::1', {address[1]}, 0, 0)")
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(FileNotFoundError):
            await loop.sock_connect(client, str(tmp_path / "nothing"))
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await loop.sock_connect(client, "x" * 200)


async def test_failed_connect_leaves_no_cycle(loop):
    """What hangs on the exception goes with it, without the collector."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = socket.socket()
        client.setblocking(False)
        gone = weakref.ref(client)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, free.getsockname())
        client.close()
        gc.collect()
        await turns()
        gc.disable()
        try:
            del client
            gc.collect(0)
            assert gone() is None
        finally:
            gc.enable()


async def test_connect_twice(loop, listening):
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        with contextlib.suppress(OSError):  # Linux says once more that it is connected
            await loop.sock_connect(client, listening.getsockname())
        with pytest.raises(OSError) as caught:
            await loop.sock_connect(client, listening.getsockname())
        assert caught.value.errno == errno.EISCONN


async def hanging_connect(loop, stack):
    """A connect that waits: the listener's backlog is full."""
    full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    while True:
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        task = asyncio.create_task(loop.sock_connect(client, full.getsockname()))
        await asyncio.wait([task], timeout=0.05)
        if not task.done():
            return full, client, task


async def test_connect_that_waits(loop):
    with contextlib.ExitStack() as stack:
        full, client, task = await hanging_connect(loop, stack)
        assert client.fileno() in readers_of(loop)
        await cancelled(task)
        assert not readers_of(loop)
        second = asyncio.create_task(loop.sock_connect(client, full.getsockname()))
        await turns()
        assert not second.done()
        while not second.done():
            with contextlib.suppress(BlockingIOError):
                full.setblocking(False)
                full.accept()[0].close()
            await asyncio.sleep(0.01)
        await second
        assert client.getpeername() == full.getsockname()


@pytest.mark.stock_fails("says it is connected, and the first send fails")
async def test_connect_unix_waits_for_room_in_the_backlog(loop):
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(listener("unix", backlog=0))
        full.setblocking(False)
        tasks = []
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            tasks.append(asyncio.create_task(loop.sock_connect(client, full.getsockname())))
        await turns()
        assert not tasks[2].done()
        for _ in range(3):
            server, _ = await loop.sock_accept(full)
            server.close()
        await asyncio.gather(*tasks)


async def test_accept_on_a_socket_that_does_not_listen(loop):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError) as caught:
            await loop.sock_accept(sock)
        assert caught.value.errno == errno.EINVAL


def test_audit_hooks_hear_of_it(script):
    """Whoever watches a process's connections sees those of the loop."""
    done = script(
        """
        import asyncio, socket, sys

        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listening.getsockname())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                await loop.sock_sendto(sock, b"x", ("127.0.0.1", 9))
                refuse.append("socket.sendto")
                try:
                    await loop.sock_sendto(sock, b"x", ("127.0.0.1", 9))
                except PermissionError as error:
                    print(error)

        def hook(name, args):
            if name in ("socket.connect", "socket.sendto"):
                print(name, type(args[0]).__name__, args[1][0])
                if name in refuse:
                    raise PermissionError("not allowed")

        refuse = []
        sys.addaudithook(hook)
        loop = factory()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert done.stderr == ""
    sent = "socket.sendto socket 127.0.0.1"
    assert done.stdout.splitlines() == [
        "socket.connect socket 127.0.0.1",
        sent,
        sent,
        "not allowed",
    ]
