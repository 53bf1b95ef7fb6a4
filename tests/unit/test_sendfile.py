# SPDX-License-Identifier: MIT
"""loop.sock_sendfile and loop.sendfile: what is sent, where the file stands then, who refuses."""

import asyncio
import contextlib
import errno
import inspect
import io
import os
import random
import resource
import socket
import struct
import threading
from asyncio import constants

import pytest
from loopkit import Recorder
from sockkit import cancelled, drain, fill, turns, waiting

SIZE = 2_500_000
DATA = random.Random(5).randbytes(SIZE)
LARGE = 50_000_000
SEEKS_ALWAYS = (
    "total_sent"
    not in inspect.signature(
        asyncio.SelectorEventLoop._sock_sendfile_update_filepos  # type: ignore[attr-defined]
    ).parameters
)


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb", buffering=0) as file:
        yield file


@pytest.fixture
def large(tmp_path):
    """More than any socket's buffers take: zeros."""
    with open(tmp_path / "large", "wb+") as file:
        file.truncate(LARGE)
        yield file


async def receive(loop, sock, size):
    received = bytearray()
    while len(received) < size:
        received += await loop.sock_recv(sock, 200_000)
    return bytes(received)


# ---- what is sent ----


@pytest.mark.parametrize(
    "offset, count, sent",
    [
        (0, None, SIZE),
        (1000, None, SIZE - 1000),
        (0, 10, 10),
        (7, 1_500_000, 1_500_000),
        (7, SIZE, SIZE - 7),
        (0, SIZE + 1, SIZE),
        (SIZE, None, 0),
        (SIZE + 5, 10, 0),
        (0, 2**40, SIZE),
        (2**40, None, 0),
    ],
)
async def test_part_of_a_file(loop, pair, file, offset, count, sent):
    left, right = pair
    file.seek(3)
    task = asyncio.create_task(loop.sock_sendfile(left, file, offset, count))
    assert await receive(loop, right, sent) == DATA[offset : offset + sent]
    assert await task == sent
    assert file.tell() == (offset + sent if sent or SEEKS_ALWAYS else 3)
    assert drain(right) == 0


async def test_empty_file(loop, pair, tmp_path):
    path = tmp_path / "empty"
    path.touch()
    with open(path, "rb") as file:
        assert await loop.sock_sendfile(pair[0], file) == 0
        assert await loop.sock_sendfile(pair[0], file, 0, 10) == 0


async def test_file_that_shrinks(loop, pair, tmp_path):
    left, right = pair
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb") as file:
        task = await waiting(loop.sock_sendfile(left, file))
        os.truncate(path, 1_000_000)
        received = await receive(loop, right, 1_000_000)
        sent = await task
        assert sent == 1_000_000
        assert received == DATA[:1_000_000]
        assert file.tell() == sent


async def test_large_sparse_file(loop, tmp_path):
    """Offsets and counts beyond what 32 bits hold."""
    left, right = socket.socketpair()
    with left, right, open(tmp_path / "sparse", "wb+") as file:
        left.setblocking(False)
        right.setblocking(False)
        file.truncate(6 * 1024**3)
        file.seek(5 * 1024**3)
        file.write(b"needle")
        file.flush()
        offset = 5 * 1024**3 - 10
        task = asyncio.create_task(loop.sock_sendfile(left, file, offset, 3_000_000))
        received = await receive(loop, right, 3_000_000)
        assert await task == 3_000_000
        assert received == bytes(10) + b"needle" + bytes(3_000_000 - 16)
        assert file.tell() == offset + 3_000_000


async def test_more_than_2_gib(loop, tmp_path):
    """All of a file that no single system call sends."""
    left, right = socket.socketpair()
    size = 2**31 + 4096
    counted = []

    def count():
        buffer = bytearray(1 << 20)
        total = 0
        while got := right.recv_into(buffer):
            total += got
        counted.append(total)

    with left, right, open(tmp_path / "sparse", "wb+") as file:
        left.setblocking(False)
        file.truncate(size)
        thread = threading.Thread(target=count)
        thread.start()
        assert await loop.sock_sendfile(left, file) == size
        assert file.tell() == size
        left.shutdown(socket.SHUT_WR)
        await asyncio.to_thread(thread.join)
    assert counted == [size]


async def test_others_get_their_turn(loop, pair, file):
    """A reader as fast as the sender doesn't keep the loop to itself."""
    left, right = pair
    right.setblocking(True)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [right.recv(1_000_000) for _ in iter(stop.is_set, 1)])
    thread.start()
    count = 0
    task = asyncio.create_task(loop.sock_sendfile(left, file))
    while not task.done():
        count += 1
        await asyncio.sleep(0)
    assert await task == SIZE
    stop.set()
    left.send(b"x")
    left.close()
    thread.join()
    assert count >= 2


# ---- errors ----


@pytest.mark.parametrize(
    "args, error, text",
    [
        ((-1,), ValueError, "offset must be a non-negative integer"),
        (("0",), TypeError, "offset must be a non-negative integer"),
        ((0, 0), ValueError, "count must be a positive integer"),
        ((0, -5), ValueError, "count must be a positive integer"),
        ((0, "1"), TypeError, "count must be a positive integer"),
    ],
)
async def test_wrong_arguments(loop, pair, file, args, error, text):
    with pytest.raises(error, match=text):
        await loop.sock_sendfile(pair[0], file, *args)


async def test_wrong_files_and_sockets(loop, pair, file, tmp_path):
    with open(tmp_path / "text", "w") as text, pytest.raises(ValueError, match="binary mode"):
        await loop.sock_sendfile(pair[0], text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(ValueError, match="only SOCK_STREAM"):
            await loop.sock_sendfile(sock, file)


async def test_no_regular_file(loop, pair, tmp_path):
    left, right = pair
    assert await loop.sock_sendfile(left, io.BytesIO(b"in memory")) == 9
    assert right.recv(100) == b"in memory"
    with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
        await loop.sock_sendfile(left, io.BytesIO(b"in memory"), fallback=False)
    file = open(tmp_path / "closed", "wb+")  # noqa: SIM115
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        await loop.sock_sendfile(left, file, fallback=False)
    reading, writing = os.pipe()
    os.write(writing, b"in a pipe")
    os.close(writing)
    with open(reading, "rb") as pipe, pytest.raises((asyncio.SendfileNotAvailableError, OSError)):
        await loop.sock_sendfile(left, pipe, 0, 9, fallback=False)


async def test_peer_is_gone(loop, pair, file):
    left, right = pair
    task = await waiting(loop.sock_sendfile(left, file))
    received = drain(right)
    right.close()
    with pytest.raises(OSError) as caught:
        await task
    assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)
    assert file.tell() >= received > 0
    file.seek(0)
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"os\.sendfile call failed"):
        await loop.sock_sendfile(left, file, fallback=False)
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendfile(left, file)


async def test_socket_is_closed_meanwhile(loop, pair, file):
    """Whoever gets the number works; the sender hears of it."""
    left, right = pair
    task = await waiting(loop.sock_sendfile(left, file))
    with contextlib.suppress(ValueError):
        loop.remove_writer(left)
    await cancelled(task)
    left.close()
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sock_sendfile(left, file, fallback=False)


async def test_not_connected(loop, file):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(sock, file, fallback=False)


@pytest.mark.stock_fails("leaves the file where it was")
async def test_cancelled(loop, pair, file):
    """The file's position tells what was sent, and sending goes on from there."""
    left, right = pair
    task = await waiting(loop.sock_sendfile(left, file, 100))
    await cancelled(task)
    sent = file.tell() - 100
    assert 0 < sent < SIZE
    received = await receive(loop, right, sent)
    assert drain(right) == 0
    task = asyncio.create_task(loop.sock_sendfile(left, file, file.tell()))
    received += await receive(loop, right, SIZE - 100 - sent)
    await task
    assert received == DATA[100:]


async def test_waits_from_the_beginning(loop, pair, file):
    left, right = pair
    size = fill(left)
    task = await waiting(loop.sock_sendfile(left, file, 0, 5))
    while size:
        size -= len(await loop.sock_recv(right, min(size, 100_000)))
    assert await task == 5
    assert right.recv(10) == DATA[:5]


# ---- through transports ----


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("size, offset", [(SIZE, 0), (100, 50)])
async def test_transport(loop, connection, file, fallback, size, offset):
    async with connection(Recorder) as (transport, protocol, peer):
        transport.write(b"before|")
        task = asyncio.create_task(loop.sendfile(transport, file, offset, size, fallback=fallback))
        expected = b"before|" + DATA[offset : offset + size]
        received = await asyncio.to_thread(receive_blocking, peer, len(expected))
        assert received == expected
        assert await task == min(size, SIZE - offset)
        assert file.tell() == offset + size
        transport.write(b"|after")
        assert peer.recv(100) == b"|after"
        peer.send(b"still reading")
        await protocol.received(13)


def receive_blocking(peer, size):
    received = bytearray()
    while len(received) < size:
        received += peer.recv(1_000_000)
    return bytes(received)


async def test_transport_by_fallback(loop, any_connection):
    async with any_connection(Recorder) as (transport, _, peer):
        file = io.BytesIO(DATA)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(transport, file, fallback=False)
        task = asyncio.create_task(loop.sendfile(transport, file, 10))
        assert await asyncio.to_thread(receive_blocking, peer, SIZE - 10) == DATA[10:]
        assert await task == SIZE - 10
        assert file.tell() == SIZE


async def test_transport_whose_peer_goes_away(loop, any_connection, large):
    async with any_connection(Recorder) as (transport, protocol, peer):
        task = await waiting(loop.sendfile(transport, large))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(ConnectionError):
            await task
        transport.abort()
        await protocol.seen("connection_lost")


async def test_transport_refuses_writes_meanwhile(loop, any_connection, large):
    async with any_connection(Recorder) as (transport, _, peer):
        task = await waiting(loop.sendfile(transport, large))
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.write(b"x")
        assert await asyncio.to_thread(receive_blocking, peer, LARGE) == bytes(LARGE)
        assert await task == LARGE


async def test_transport_cancelled(loop, any_connection, large):
    async with any_connection(Recorder) as (transport, protocol, peer):
        task = await waiting(loop.sendfile(transport, large))
        await cancelled(task)
        await turns()
        transport.write(b"end")
        transport.write_eof()
        received = await asyncio.to_thread(receive_to_end, peer)
        assert received.endswith(b"end")
        assert received[:-3] == bytes(len(received) - 3)
        peer.send(b"x")
        await protocol.received(1)


def receive_to_end(peer):
    received = bytearray()
    while data := peer.recv(1_000_000):
        received += data
    return bytes(received)


@pytest.mark.parametrize("native", [True, False])
async def test_large_file_to_a_slow_reader(loop, any_connection, tmp_path, native):
    """200 MB, of which only little may be in memory at a time."""
    size = 200_000_000
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(size)

    def read_slowly(peer):
        total = 0
        buffer = bytearray(300_000)
        while total < size:
            total += peer.recv_into(buffer)
        return total

    async with any_connection(Recorder) as (transport, _, peer):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open(path, "rb") as file:
            if not native:
                transport_class = type(transport)
                assert transport_class._sendfile_compatible is constants._SendfileMode.TRY_NATIVE
                file = io.BufferedReader(NoDescriptor(file))
            reading = asyncio.create_task(asyncio.to_thread(read_slowly, peer))
            assert await loop.sendfile(transport, file) == size
            assert await reading == size
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


class NoDescriptor(io.RawIOBase):
    """A file that os.sendfile can't be used with."""

    def __init__(self, file):
        self.file = file

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def fileno(self):
        raise io.UnsupportedOperation("fileno")

    def seekable(self):
        return True

    def seek(self, *args):
        return self.file.seek(*args)


async def test_sendfile_while_another_task_receives(loop, pair, file):
    left, right = pair
    receiving = await waiting(loop.sock_recv(left, 10))
    sending = await waiting(loop.sock_sendfile(left, file))
    right.send(b"in")
    assert await receiving == b"in"
    assert await receive(loop, right, SIZE) == DATA
    assert await sending == SIZE
