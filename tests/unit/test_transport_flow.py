# SPDX-License-Identifier: MIT
"""Flow control both ways: pausing reads, write-buffer limits, pause_writing/resume_writing."""

import asyncio

import pytest
from loopkit import Echo, Recorder, address_of, connect, in_thread, read_exactly, start_server

MIB = 1 << 20


async def quiet(rounds=10):
    """Give the loop a chance to do what it must not do."""
    for _ in range(rounds):
        await asyncio.sleep(0)
    await asyncio.sleep(0.002)


async def test_pause_and_resume_reading(connection, loop):
    async with connection() as (transport, protocol, peer):
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"held")
        await quiet()
        assert protocol.data == b""
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(4) == b"held"


async def test_pause_and_resume_are_idempotent(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        transport.resume_reading()
        transport.resume_reading()
        peer.sendall(b"x")
        await protocol.received(1)


async def test_pause_in_connection_made(connection, loop):
    """Nothing is delivered although data came before connection_made returned."""

    class Paused(Recorder):
        def connection_made(self, transport):
            transport.pause_reading()
            assert not transport.is_reading()
            super().connection_made(transport)

    async with connection(Paused) as (transport, protocol, peer):
        peer.sendall(b"early")
        await quiet()
        assert protocol.data == b""
        assert not transport.is_reading()
        transport.resume_reading()
        assert await protocol.received(5) == b"early"


async def test_pause_and_resume_in_connection_made(connection, loop):
    class Toggle(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            transport.resume_reading()

    async with connection(Toggle) as (_, protocol, peer):
        peer.sendall(b"x")
        assert await protocol.received(1) == b"x"
    assert protocol.events.count("data_received") == 1


async def test_pause_in_data_received_holds_the_rest(connection, loop):
    """At most one more chunk of what the kernel already has reaches a protocol that paused."""

    class PauseEach(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    total = 3 * MIB
    async with connection(PauseEach) as (transport, protocol, peer):
        sending = asyncio.ensure_future(in_thread(peer.sendall, b"y" * total))
        while len(protocol.data) < total:
            calls = protocol.events.count("data_received")
            await protocol.seen("data_received", max(calls, 1))
            calls = protocol.events.count("data_received")
            await quiet(3)
            assert protocol.events.count("data_received") == calls
            transport.resume_reading()
            if len(protocol.data) < total:
                await protocol.seen("data_received", calls + 1)
        await sending
    assert protocol.data == b"y" * total


async def test_pause_by_another_connection_of_the_same_round(loop):
    """Both are readable; the first to run pauses both."""
    protocols = []

    class PauseAll(Recorder):
        def data_received(self, data):
            super().data_received(data)
            for protocol in protocols:
                protocol.transport.pause_reading()

    def make():
        protocols.append(PauseAll())
        return protocols[-1]

    server = await start_server("tcp", make)
    clients = [await connect(address_of(server), Recorder) for _ in range(2)]
    while len(protocols) < 2 or not all(p.transport for p in protocols):
        await asyncio.sleep(0)

    def send_both():
        for transport, _ in clients:
            transport.write(b"x")

    loop.call_soon(send_both)
    await quiet()
    assert sum(len(p.data) for p in protocols) <= 2
    for protocol in protocols.copy():
        protocol.transport.resume_reading()
        await protocol.received(1)
        protocols.remove(protocol)
        protocol.transport.resume_reading()
    for transport, protocol in clients:
        transport.abort()
        await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_reading_calls_after_close_do_nothing(connection, loop):
    async with connection() as (transport, protocol, _):
        transport.close()
        assert transport.is_closing()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        await protocol.seen("connection_lost")
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()


async def test_paused_transport_closes(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.pause_reading()
        transport.write(b"end")
        transport.close()
        await protocol.seen("connection_lost")
        assert await in_thread(read_exactly, peer, 4) == b"end"


async def test_paused_transport_does_not_see_the_end(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.pause_reading()
        peer.sendall(b"last words")
        peer.close()
        await quiet()
        assert protocol.events == ["connection_made"]
        transport.resume_reading()
        await protocol.seen("connection_lost")
    assert protocol.data == b"last words"


async def test_write_buffer_limits(connection, loop):
    async with connection() as (transport, _, _):
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        for arguments, expected in (
            ({"high": 1000}, (250, 1000)),
            ({"low": 1000}, (1000, 4000)),
            ({"high": 5, "low": 2}, (2, 5)),
            ({"high": 7, "low": 7}, (7, 7)),
            ({"high": 0}, (0, 0)),
            ({}, (16 * 1024, 64 * 1024)),
        ):
            transport.set_write_buffer_limits(**arguments)
            assert transport.get_write_buffer_limits() == expected
        transport.set_write_buffer_limits(100, 50)
        assert transport.get_write_buffer_limits() == (50, 100)


@pytest.mark.parametrize("arguments", [{"high": 1, "low": 2}, {"high": -1}, {"low": -1, "high": 5}])
async def test_bad_write_buffer_limits(any_connection, loop, arguments):
    async with any_connection() as (transport, _, _):
        with pytest.raises(ValueError, match=r"high .* must be >= low .* must be >= 0"):
            transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


async def test_pause_and_resume_writing(connection, loop):
    async with connection() as (transport, protocol, peer):
        assert transport.get_write_buffer_size() == 0
        transport.write(b"x" * 8 * MIB)
        assert protocol.events == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() > 64 * 1024
        transport.write(b"y")
        assert protocol.events.count("pause_writing") == 1
        await in_thread(read_exactly, peer, 8 * MIB + 1)
        await protocol.seen("resume_writing")
        assert transport.get_write_buffer_size() <= 16 * 1024
    assert protocol.events == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]


async def test_write_that_fits_does_not_pause(connection, loop):
    async with connection() as (transport, protocol, peer):
        for _ in range(10):
            transport.write(b"z" * 1000)
        assert await in_thread(read_exactly, peer, 1) == b"z"
        await quiet()
        assert "pause_writing" not in protocol.events
        assert transport.get_write_buffer_size() == 0


async def test_buffer_size_counts_what_is_queued(connection, loop):
    """Nobody reads: sent plus queued is what was written."""
    async with connection() as (transport, _, peer):
        transport.write(b"a" * 8 * MIB)
        first = transport.get_write_buffer_size()
        assert 0 < first <= 8 * MIB
        transport.write(b"b" * 1000)
        second = transport.get_write_buffer_size()
        assert first < second <= first + 1000 or second <= first
        transport.writelines([b"c" * 500, b"d" * 500])
        assert transport.get_write_buffer_size() <= 8 * MIB + 2000
        await in_thread(read_exactly, peer, 8 * MIB + 2000)
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)


async def test_high_water_of_zero(connection, loop):
    """Any queued byte pauses; resume comes when nothing is left."""
    async with connection() as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * 8 * MIB)
        assert protocol.events[-1] == "pause_writing"
        await in_thread(read_exactly, peer, 8 * MIB)
        await protocol.seen("resume_writing")
        assert transport.get_write_buffer_size() == 0


async def test_write_in_resume_writing(connection, loop):
    """Refilling the buffer from resume_writing pauses again, and loses nothing."""
    chunks = [bytes([i]) * MIB for i in range(30)]

    class Refill(Recorder):
        left = chunks[::-1]
        paused = False

        def fill(self):
            while self.left and not self.paused:
                self.transport.write(self.left.pop())

        def pause_writing(self):
            super().pause_writing()
            assert not self.paused
            self.paused = True

        def resume_writing(self):
            super().resume_writing()
            assert self.paused
            self.paused = False
            self.fill()

    async with connection(Refill) as (_, protocol, peer):
        protocol.fill()
        assert protocol.paused
        assert await in_thread(read_exactly, peer, 30 * MIB) == b"".join(chunks)
        await protocol.until(lambda: not protocol.paused)


async def test_close_in_pause_writing(connection, loop):
    class CloseOnPause(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.close()

    async with connection(CloseOnPause) as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        assert transport.is_closing()
        assert await in_thread(read_exactly, peer, 8 * MIB + 1) == b"x" * 8 * MIB
        await protocol.seen("connection_lost")
    assert protocol.exception is None


async def test_abort_in_pause_writing(connection, loop):
    class AbortOnPause(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.abort()

    async with connection(AbortOnPause) as (transport, protocol, _):
        transport.write(b"x" * 8 * MIB)
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        await protocol.seen("connection_lost")
    assert protocol.exception is None


@pytest.mark.stock_fails("connection_lost comes twice (gh-156512)", before=(3, 14, 8))
@pytest.mark.parametrize("call", ["close", "abort"])
async def test_ending_in_resume_writing(connection, loop, call):
    class End(Recorder):
        def resume_writing(self):
            super().resume_writing()
            getattr(self.transport, call)()

    async with connection(End) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * 8 * MIB)
        await in_thread(read_exactly, peer, 8 * MIB)
        await protocol.seen("connection_lost")
    assert protocol.exception is None


async def test_set_limits_with_data_queued(connection, loop):
    """Lower limits apply to what is queued; the protocol is paused now or at the next write."""
    async with connection() as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=68 * MIB)
        transport.write(b"x" * 8 * MIB)
        assert "pause_writing" not in protocol.events
        transport.set_write_buffer_limits(high=1000)
        transport.write(b"y")
        assert protocol.events.count("pause_writing") == 1
        await in_thread(read_exactly, peer, 8 * MIB + 1)
        await protocol.seen("resume_writing")


async def test_two_peers_that_pause_each_other(loop, kind):
    """Both sides write 4 MiB before they read: no deadlock, nothing lost."""
    server = await start_server(kind, Echo)
    transport, protocol = await connect(address_of(server), Recorder)
    data = bytes(range(256)) * (8 * MIB // 256)
    transport.write(data)
    await protocol.received(len(data))
    assert protocol.data == data
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_one_busy_connection_does_not_starve_another(loop):
    """A peer that never stops sending leaves the loop responsive."""
    server = await start_server("tcp", Recorder)
    flood, _ = await connect(address_of(server), Recorder)
    stop = False

    async def feed():
        while not stop:
            flood.write(b"f" * 100_000)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(feed())
    echo = await start_server("tcp", Echo)
    transport, protocol = await connect(address_of(echo), Recorder)
    for i in range(20):
        transport.write(b"ping")
        await protocol.received(4 * (i + 1))
    stop = True
    await task
    for end in (flood, transport):
        end.abort()
    await protocol.seen("connection_lost")
    await quiet()
    for each in (server, echo):
        each.close()
        await each.wait_closed()
