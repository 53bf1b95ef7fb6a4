# SPDX-License-Identifier: MIT
"""Many connections, and random conversations compared byte for byte."""

import asyncio
import contextlib
import gc
import random
import socket
import struct
import weakref

import pytest
from loopkit import (
    BufferedRecorder,
    Echo,
    Recorder,
    address_of,
    connect,
    connect_to,
    in_thread,
    open_fds,
    start_server,
)


async def settled(count):
    """Wait until no more than `count` descriptors are open."""
    for _ in range(2000):
        if len(open_fds()) <= count:
            return
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", ["client closes", "server closes", "reset"])
async def test_5000_connections_leave_the_descriptors_flat(loop, how):
    class Closing(asyncio.Protocol):
        def connection_made(self, transport):
            if how == "server closes":
                transport.close()

    server = await start_server("tcp", Closing, backlog=1000)
    address = address_of(server)
    before = len(open_fds())

    def batch():
        for _ in range(250):
            sock = connect_to(address)
            if how == "server closes":
                assert sock.recv(1) == b""
            elif how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    for _ in range(20):
        await in_thread(batch)
    await settled(before)
    assert len(open_fds()) == before
    server.close()
    await server.wait_closed()


async def test_connections_both_ends_on_the_loop(loop, kind):
    server = await start_server(kind, Echo)
    before = len(open_fds())
    alive = weakref.WeakSet()

    async def one(i):
        transport, protocol = await connect(address_of(server), Recorder)
        alive.add(transport)
        transport.write(b"%d" % i)
        await protocol.received(len(str(i)))
        transport.close() if i % 2 else transport.abort()
        await protocol.seen("connection_lost")

    for start in range(0, 1000, 50):
        await asyncio.gather(*(one(i) for i in range(start, start + 50)))
    await settled(before)
    assert len(open_fds()) == before
    gc.collect()
    assert len(alive) == 0
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("seed", range(6))
async def test_random_conversation(loop, kind, seed):
    """Writes, writelines, pauses, switches and limits at random; every byte arrives in order."""
    rng = random.Random(seed)

    class Server(Echo):
        def data_received(self, data):
            choice = rng.random()
            if choice < 0.3 and len(data) > 10:
                self.transport.write(data[:5])
                self.transport.writelines([data[5:7], b"", data[7:]])
            elif choice < 0.5:
                self.transport.write(bytearray(data))
            else:
                self.transport.write(data)
            if rng.random() < 0.2:
                self.transport.pause_reading()
                loop.call_later(0.0005, self.resume)

        def resume(self):
            if not self.paused_by_writing:
                self.transport.resume_reading()

        paused_by_writing = False

        def pause_writing(self):
            self.paused_by_writing = True
            self.transport.pause_reading()

        def resume_writing(self):
            self.paused_by_writing = False
            self.transport.resume_reading()

    server = await start_server(kind, Server)
    transport, protocol = await connect(address_of(server), Recorder)
    shadow = BufferedRecorder()
    shadow.data = protocol.data  # both append to one buffer
    shadow._changed = protocol._changed
    expected = bytearray()
    for _ in range(120):
        choice = rng.random()
        data = rng.randbytes(rng.choice([1, 10, 1000, 30_000, 200_000]))
        if choice < 0.5:
            transport.write(data)
            expected += data
        elif choice < 0.7:
            cuts = [data[i : i + 999] for i in range(0, len(data), 999)]
            transport.writelines(cuts)
            expected += data
        elif choice < 0.8:
            transport.pause_reading()
            await asyncio.sleep(0.0005)
            transport.resume_reading()
        elif choice < 0.9:
            transport.set_protocol(rng.choice([protocol, shadow]))
        else:
            transport.set_write_buffer_limits(rng.choice([0, 100, 100_000]))
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    assert await protocol.received(len(expected)) == expected
    transport.set_protocol(protocol)
    transport.close()
    await protocol.seen("connection_lost")
    assert protocol.exception is None
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("seed", range(4))
async def test_random_endings(loop, seed):
    """Peers that end connections at any moment in any way; the loop and the server go on."""
    rng = random.Random(seed)
    made = lost = 0

    class Server(Echo):
        def connection_made(self, transport):
            nonlocal made
            made += 1
            super().connection_made(transport)
            if rng.random() < 0.05:
                transport.abort()

        def data_received(self, data):
            choice = rng.random()
            if choice < 0.05:
                self.transport.abort()
            elif choice < 0.1:
                self.transport.close()
            super().data_received(data)

        def connection_lost(self, exc):
            nonlocal lost
            lost += 1

    server = await start_server("tcp", Server)
    address = address_of(server)

    def peers():
        own = random.Random(seed)
        for _ in range(150):
            sock = connect_to(address)
            with sock, contextlib.suppress(OSError):
                for _ in range(own.randrange(4)):
                    sock.sendall(own.randbytes(own.choice([1, 1000, 100_000])))
                    if own.random() < 0.5:
                        sock.recv(1000)
                if own.random() < 0.3:
                    sock.shutdown(own.choice([socket.SHUT_WR, socket.SHUT_RDWR]))
                if own.random() < 0.4:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    await asyncio.gather(in_thread(peers), in_thread(peers))
    for _ in range(2000):
        if made == lost:
            break
        await asyncio.sleep(0.001)
    assert made == lost > 0
    with connect_to(address) as peer:
        peer.sendall(b"?")
    server.close()
    await server.wait_closed()
