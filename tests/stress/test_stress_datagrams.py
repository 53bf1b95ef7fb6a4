# SPDX-License-Identifier: MIT
"""Datagrams by the hundred thousand, endpoints that come and go, and the collector."""

import asyncio
import contextlib
import gc
import random
import socket

import pytest
from loopkit import DatagramRecorder, datagram_socket, open_fds


@pytest.mark.stock_fails(
    "what is sent counts for 8 bytes less than it did when queued", since=(3, 13), before=(3, 13, 9)
)
async def test_hundred_thousand_datagrams_with_flow_control(loop):
    """None is lost, doubled or out of order on a connected unix pair that blocks all the time."""
    total = 100_000
    ready = asyncio.Event()
    done = loop.create_future()

    class Sink(asyncio.DatagramProtocol):
        count = 0

        def datagram_received(self, data, addr):
            assert int(data) == self.count
            self.count += 1
            if self.count == total:
                done.set_result(None)

    class Source(DatagramRecorder):
        def pause_writing(self):
            ready.clear()

        def resume_writing(self):
            ready.set()

    receiving, sending = datagram_socket("unix"), datagram_socket("unix")
    sending.connect(receiving.getsockname())
    sink, _ = await loop.create_datagram_endpoint(Sink, sock=receiving)
    source, _ = await loop.create_datagram_endpoint(Source, sock=sending)
    source.set_write_buffer_limits(high=2000)
    ready.set()
    for number in range(total):
        source.sendto(b"%d" % number)
        if not ready.is_set():
            await asyncio.wait_for(ready.wait(), 30)
    await asyncio.wait_for(done, 30)
    for transport in (source, sink):
        transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_endpoints_that_come_and_go(loop):
    before = len(open_fds())
    with datagram_socket("udp") as peer:
        for number in range(2000):
            transport, protocol = await loop.create_datagram_endpoint(
                DatagramRecorder, ("127.0.0.1", 0)
            )
            transport.sendto(b"x", peer.getsockname())
            assert peer.recv(9) == b"x"
            transport.close() if number % 2 else transport.abort()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert len(open_fds()) == before + 1


@pytest.mark.stock_fails("abort() after a delayed close: AttributeError", before=(3, 14, 8))
@pytest.mark.parametrize("seed", range(5))
async def test_random_calls(loop, seed, errors, unraisable):
    """Whatever is called from whatever callback, each endpoint ends once and nothing leaks."""
    rng = random.Random(seed)
    protocols = []

    class Wild(DatagramRecorder):
        def act(self):
            roll = rng.random()
            if roll < 0.02:
                self.transport.abort()
            elif roll < 0.04:
                self.transport.close()
            elif roll < 0.06:
                raise ZeroDivisionError
            elif roll < 0.08:
                gc.collect()
            elif roll < 0.9:
                with contextlib.suppress(ZeroDivisionError):
                    self.transport.sendto(rng.randbytes(rng.randrange(200)), rng.choice(names))

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.act()

        def error_received(self, exc):
            super().error_received(exc)
            self.act()

        def pause_writing(self):
            super().pause_writing()
            self.act()

        def resume_writing(self):
            super().resume_writing()
            self.act()

    socks = [datagram_socket("unix") for _ in range(10)]
    names = [sock.getsockname() for sock in socks]
    for sock in socks:
        transport, protocol = await loop.create_datagram_endpoint(Wild, sock=sock)
        transport.set_write_buffer_limits(high=rng.randrange(500))
        protocols.append(protocol)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outside:
        outside.setblocking(False)
        for _ in range(300):
            for name in names:
                with contextlib.suppress(OSError):
                    outside.sendto(b"go", name)
            await asyncio.sleep(0)
    for protocol in protocols:
        protocol.transport.abort()
        await protocol.seen("connection_lost")
    await asyncio.sleep(0)
    assert [p.events.count("connection_lost") for p in protocols] == [1] * 10
    assert all(type(context["exception"]) is ZeroDivisionError for context in errors)
    errors.clear()
