# SPDX-License-Identifier: MIT
"""Bytes through a stream transport: every size, type and way to send and receive them."""

import array
import asyncio
import random
import socket
import struct

import pytest
from loopkit import (
    BufferedRecorder,
    Echo,
    Recorder,
    address_of,
    connect,
    in_thread,
    read_all,
    read_exactly,
    start_server,
)

SIZES = [1, 2, 1023, 1024, 4095, 65536, 65537, 262_144, 262_145, 1_000_000, 8 << 20]


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("protocol_class", [Recorder, BufferedRecorder])
async def test_echo(loop, kind, size, protocol_class):
    data = noise(size)
    server = await start_server(kind, Echo)
    transport, protocol = await connect(address_of(server), protocol_class)
    transport.write(data)
    assert await protocol.received(size) == data
    transport.close()
    await protocol.seen("connection_lost")
    assert protocol.exception is None
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_read_what_a_raw_peer_sends(connection, loop, size):
    data = noise(size, 1)
    async with connection() as (_, protocol, peer):
        await in_thread(peer.sendall, data)
        assert await protocol.received(size) == data


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_write_to_a_raw_peer(connection, loop, size):
    data = noise(size, 2)
    async with connection() as (transport, _, peer):
        transport.write(data)
        assert await in_thread(read_exactly, peer, size) == data


async def test_data_is_bytes(any_connection, loop):
    seen = []

    class Typed(Recorder):
        def data_received(self, data):
            seen.append(type(data))
            super().data_received(data)

    async with any_connection(Typed) as (_, protocol, peer):
        for size in (1, 20_000, 600_000):
            before = len(protocol.data)
            await in_thread(peer.sendall, bytes(size))
            await protocol.received(before + size)
    assert set(seen) == {bytes}


async def test_received_chunks_are_kept_apart(any_connection, loop):
    """What a protocol stored isn't overwritten by a later read into the same buffer."""
    chunks = []

    class Keeper(Recorder):
        def data_received(self, data):
            chunks.append(data)
            super().data_received(data)

    async with any_connection(Keeper) as (_, protocol, peer):
        for i in range(50):
            peer.sendall(bytes([i]) * (1 + i * 400))
            await protocol.received(sum(1 + k * 400 for k in range(i + 1)))
    assert b"".join(chunks) == b"".join(bytes([i]) * (1 + i * 400) for i in range(50))


@pytest.mark.parametrize("buffer_size", [1, 7, 4096, 1 << 20])
async def test_buffered_protocol(connection, loop, buffer_size):
    class Buffered(BufferedRecorder):
        pass

    Buffered.buffer_size = buffer_size
    data = noise(50 if buffer_size == 1 else 30_000)
    async with connection(Buffered) as (_, protocol, peer):
        await in_thread(peer.sendall, data)
        assert await protocol.received(len(data)) == data
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("eof_received")
    assert "data_received" not in protocol.events


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
async def test_buffers_of_a_buffered_protocol(any_connection, loop, make):
    class Buffered(BufferedRecorder):
        def get_buffer(self, sizehint):
            assert isinstance(sizehint, int)
            self.buffer = make(100)
            return self.buffer

    async with any_connection(Buffered) as (_, protocol, peer):
        peer.sendall(b"x" * 1000)
        assert await protocol.received(1000) == b"x" * 1000


async def test_set_protocol_in_mid_stream(connection, loop):
    """Plain to buffered and back: each gets what comes after the switch."""

    class Second(BufferedRecorder):
        buffer_size = 3

    async with connection() as (transport, first, peer):
        assert transport.get_protocol() is first
        peer.sendall(b"one")
        await first.received(3)
        second, third = Second(), Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.sendall(b"second")
        await second.received(6)
        transport.set_protocol(third)
        peer.sendall(b"third")
        await third.received(5)
        transport.set_protocol(first)
    assert (first.data, second.data, third.data) == (b"one", b"second", b"third")
    assert "connection_made" not in second.events
    assert "connection_lost" not in second.events + third.events


async def test_set_protocol_inside_data_received(any_connection, loop):
    class Switch(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(other)

    other = BufferedRecorder()
    async with any_connection(Switch) as (transport, first, peer):
        peer.sendall(b"a")
        await first.received(1)
        peer.sendall(b"bc")
        await other.received(2)
        transport.set_protocol(first)
    assert (first.data, other.data) == (b"a", b"bc")


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"abcdefgh")[::2],
        memoryview(b"abcdefgh")[::-1],
        memoryview(array.array("i", range(10))),
        memoryview(bytearray(range(24))).cast("B", (2, 3, 4)),
        memoryview(b""),
        b"",
        bytearray(),
    ],
    ids=lambda value: type(value).__name__ + str(len(value)),
)
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_types(any_connection, loop, value, method):
    stock_view = type(loop) is asyncio.SelectorEventLoop and isinstance(value, memoryview)
    if stock_view and (not value.c_contiguous or value.itemsize > 1 or value.ndim > 1):
        pytest.skip("stock asyncio counts a view's items instead of its bytes")
    async with any_connection() as (transport, _, peer):
        transport.write(b"<") if method == "write" else transport.writelines([b"<"])
        transport.write(value) if method == "write" else transport.writelines([value])
        transport.writelines([b">"])
        expected = b"<" + bytes(value) + b">"
        assert await in_thread(read_exactly, peer, len(expected)) == expected


@pytest.mark.parametrize("value", ["text", 1, None, [b"x"], object()])
async def test_other_types_are_refused(any_connection, loop, value):
    async with any_connection() as (transport, _, peer):
        with pytest.raises(TypeError, match=f"bytes.*not {type(value).__name__!r}"):
            transport.write(value)
        assert not transport.is_closing()
        transport.write(b"fine")
        assert await in_thread(read_exactly, peer, 4) == b"fine"


@pytest.mark.stock_fails("it queues a view of the caller's buffer", since=(3, 12))
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_bytearray_changed_after_write(connection, loop, method):
    """What was queued is what was written, whatever becomes of the buffer."""
    size = 4 << 20
    async with connection() as (transport, _, peer):
        for fill in (b"a", b"b"):
            data = bytearray(fill * size)
            transport.write(data) if method == "write" else transport.writelines([data])
            data[:] = b"!" * size
        assert await in_thread(read_exactly, peer, 2 * size) == b"a" * size + b"b" * size


async def test_bytearray_can_be_resized_after_write(any_connection, loop):
    async with any_connection() as (transport, _, peer):
        data = bytearray(b"hello")
        transport.write(data)
        data.clear()
        assert await in_thread(read_exactly, peer, 5) == b"hello"


async def test_many_small_writes_arrive_in_order(connection, loop):
    async with connection() as (transport, _, peer):
        for i in range(5000):
            transport.write(struct.pack(">I", i))
        data = await in_thread(read_exactly, peer, 20_000)
    assert [n for (n,) in struct.iter_unpack(">I", data)] == list(range(5000))


async def test_writes_of_many_sizes_arrive_in_order(connection, loop):
    rng = random.Random(5)
    chunks = [rng.randbytes(rng.choice([0, 1, 100, 5000, 70_000])) for _ in range(300)]
    expected = b"".join(chunks)
    async with connection() as (transport, _, peer):
        reading = asyncio.ensure_future(in_thread(read_exactly, peer, len(expected)))
        for i, chunk in enumerate(chunks):
            transport.write(chunk)
            if i % 10 == 0:
                await asyncio.sleep(0)
        assert await reading == expected


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"one"],
        [b"one", b"two"],
        (b"tuple", b"of", bytearray(b"things"), memoryview(b"here")),
        [b"", b"a", b"", b"b", b""],
        [b"x" * 100_000] * 20,
        [b"y"] * 5000,
    ],
    ids=["empty", "nothing", "one", "two", "tuple", "gaps", "large", "many"],
)
async def test_writelines(connection, loop, lines):
    expected = b"".join(lines)
    async with connection() as (transport, _, peer):
        transport.writelines(lines)
        transport.write(b"!")
        got = await in_thread(read_exactly, peer, len(expected) + 1)
        assert got == expected + b"!"


@pytest.mark.parametrize("how", ["generator", "iterator", "dict keys"])
async def test_writelines_takes_any_iterable(any_connection, loop, how):
    lines = [b"a", b"bc", b"d"]
    given = {
        "generator": (line for line in lines),
        "iterator": iter(lines),
        "dict keys": dict.fromkeys(lines).keys(),
    }[how]
    async with any_connection() as (transport, _, peer):
        transport.writelines(given)
        assert await in_thread(read_exactly, peer, 4) == b"abcd"


async def test_writelines_behind_queued_data(connection, loop):
    async with connection() as (transport, _, peer):
        transport.write(b"a" * (4 << 20))
        transport.writelines([b"b" * 1000, b"c" * 1000])
        transport.write(b"d")
        data = await in_thread(read_exactly, peer, (4 << 20) + 2001)
    assert data == b"a" * (4 << 20) + b"b" * 1000 + b"c" * 1000 + b"d"


async def test_writelines_refuses_other_types(any_connection, loop):
    async with any_connection() as (transport, _, peer):
        for bad in (["text"], [b"fine", 1], 1):
            with pytest.raises(TypeError):
                transport.writelines(bad)


async def test_write_eof(connection, loop):
    """The peer sees the end of the stream and can still answer."""
    async with connection() as (transport, protocol, peer):
        assert transport.can_write_eof()
        transport.write(b"question")
        transport.write_eof()
        transport.write_eof()
        assert await in_thread(read_all, peer) == b"question"
        peer.sendall(b"answer")
        assert await protocol.received(6) == b"answer"
        assert not transport.is_closing()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
    assert protocol.exception is None


@pytest.mark.since((3, 12), "the check in writelines")
async def test_writelines_after_write_eof(any_connection, loop):
    async with any_connection() as (transport, _, peer):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call writelines\(\) after write_eof\(\)"):
            transport.writelines([b"x"])


async def test_write_eof_waits_for_queued_data(connection, loop):
    size = 4 << 20
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * size)
        transport.write_eof()
        data = await in_thread(read_all, peer)
        assert data == b"x" * size
        peer.sendall(b"thanks")
        assert await protocol.received(6) == b"thanks"


async def test_write_eof_after_two_writes_of_a_round(connection, loop):
    async with connection() as (transport, _, peer):
        transport.write(b"one")
        transport.write(b"two")
        transport.write_eof()
        assert await in_thread(read_all, peer) == b"onetwo"


async def test_write_eof_then_close(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"last")
        transport.write_eof()
        transport.close()
        assert await in_thread(read_all, peer) == b"last"
        await protocol.seen("connection_lost")
    assert protocol.exception is None


@pytest.mark.parametrize("answer", [False, None, 0])
async def test_end_of_the_stream_closes(connection, loop, answer):
    class Closing(Recorder):
        keep_open = answer

    async with connection(Closing) as (transport, protocol, peer):
        peer.sendall(b"bye")
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("connection_lost")
        assert transport.is_closing()
        assert await in_thread(read_all, peer) == b""
    assert protocol.data == b"bye"
    assert protocol.events[-2:] == ["eof_received", "connection_lost"]
    assert protocol.exception is None


@pytest.mark.parametrize("answer", [True, 1, "yes"])
async def test_end_of_the_stream_with_the_write_side_kept_open(connection, loop, answer):
    class Open(Recorder):
        keep_open = answer

    async with connection(Open) as (transport, protocol, peer):
        peer.sendall(b"bye")
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("eof_received")
        await asyncio.sleep(0.001)
        assert not transport.is_closing()
        transport.write(b"later")
        assert await in_thread(read_exactly, peer, 5) == b"later"
        transport.close()
        assert await in_thread(read_all, peer) == b""
        await protocol.seen("connection_lost")
    assert protocol.events.count("eof_received") == 1
    assert protocol.exception is None


async def test_half_closed_connection_does_not_spin(loop, connection):
    """After EOF with the write side open the loop sleeps."""
    import time

    class Open(Recorder):
        keep_open = True

    async with connection(Open) as (_, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("eof_received")
        start = time.thread_time()
        await asyncio.sleep(0.1)
        assert time.thread_time() - start < 0.05
    assert protocol.events.count("eof_received") == 1


async def test_queued_data_is_sent_after_the_end_of_the_stream(connection, loop):
    """EOF closes the transport only after what was written has left."""
    size = 4 << 20
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * size)
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("eof_received")
        assert await in_thread(read_all, peer) == b"x" * size
        await protocol.seen("connection_lost")
    assert protocol.exception is None


async def test_data_and_end_of_the_stream_together(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.pause_reading()
        peer.sendall(b"z" * 1000)
        peer.close()
        await asyncio.sleep(0.001)
        transport.resume_reading()
        await protocol.seen("connection_lost")
    assert protocol.data == b"z" * 1000
    assert protocol.events[-2:] == ["eof_received", "connection_lost"]


def data_segments_sent(transport):
    """TCP_INFO's tcpi_data_segs_out of the transport's socket."""
    info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, 156)[0]


@pytest.mark.stock_fails("each write() is a send() of its own")
@pytest.mark.parametrize("how", ["write", "writelines", "from data_received"])
async def test_writes_of_one_callback_leave_together(loop, any_connection, how):
    """The first goes out at once; all later ones of the round share one segment."""

    class Answering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if how == "from data_received":
                write(self.transport)

    def write(transport):
        for i in range(8):
            if how == "writelines":
                transport.writelines([b"%d" % i, b"abc"])
            else:
                transport.write(b"%dabc" % i)

    async with any_connection(Answering) as (transport, protocol, peer):
        before = data_segments_sent(transport)
        if how == "from data_received":
            peer.sendall(b"go")
            await protocol.received(2)
        else:
            write(transport)
        assert await in_thread(read_exactly, peer, 32) == b"".join(b"%dabc" % i for i in range(8))
        assert data_segments_sent(transport) - before <= 2


@pytest.mark.stock_fails("each write() is a send() of its own")
async def test_head_and_body_of_a_response_leave_together(loop, any_connection):
    """The two writes of a response need two segments at most, and one once this is a habit."""

    class Server(Recorder):
        def data_received(self, data):
            self.transport.write(b"head")
            self.transport.write(b"body")

    async with any_connection(Server) as (transport, _, peer):
        for i in range(10):
            before = data_segments_sent(transport)
            peer.sendall(b"request")
            assert await in_thread(read_exactly, peer, 8) == b"headbody"
            assert data_segments_sent(transport) - before <= (2 if i == 0 else 1)


async def test_first_write_goes_out_at_once(connection, loop):
    """A lone write isn't held back until the end of the round."""
    async with connection() as (transport, _, peer):
        transport.write(b"now")
        peer.settimeout(5)
        assert peer.recv(10) == b"now"


@pytest.mark.parametrize("call", ["write_eof", "close"])
async def test_deferred_writes_leave_before(connection, loop, call):
    async with connection() as (transport, _, peer):
        for i in range(5):
            transport.write(b"%d" % i)
        getattr(transport, call)()
        assert await in_thread(read_all, peer) == b"01234"


def test_deferred_writes_leave_although_the_loop_stops(loop):
    """stop() in the same callback as the writes doesn't keep them back."""
    left, right = socket.socketpair()
    with right:
        right.settimeout(5)

        async def main():
            transport, _ = await loop.create_connection(Recorder, sock=left)
            return transport

        transport = loop.run_until_complete(main())

        def write():
            transport.write(b"one")
            transport.write(b"two")
            loop.stop()

        loop.call_soon(write)
        loop.run_forever()
        assert read_exactly(right, 6) == b"onetwo"
        transport.close()


async def test_parallel_connections(loop, kind):
    """Each of 50 connections gets its own bytes back."""
    server = await start_server(kind, Echo)

    async def one(i):
        data = noise(20_000 + i, i)
        transport, protocol = await connect(address_of(server), Recorder)
        for start in range(0, len(data), 3000):
            transport.write(data[start : start + 3000])
            await asyncio.sleep(0)
        assert await protocol.received(len(data)) == data
        transport.close()
        await protocol.seen("connection_lost")

    await asyncio.gather(*map(one, range(50)))
    server.close()
    await server.wait_closed()
