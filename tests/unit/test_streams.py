# SPDX-License-Identifier: MIT
"""asyncio's streams on connections: the readers that hoop accelerates, and those it must not."""

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import ssl
import traceback
import weakref

import pytest
from loopkit import address_of, listener

LIMIT = 1000


@contextlib.asynccontextmanager
async def streams(handler=None, **options):
    """A server's reader and writer, and the client's, of one connection."""
    accepted = asyncio.get_running_loop().create_future()

    def connected(reader, writer):
        accepted.set_result((reader, writer))
        return handler(reader, writer) if handler is not None else None

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LIMIT, **options)
    client = await asyncio.open_connection(*address_of(server)[:2], limit=LIMIT)
    pair = await accepted
    try:
        yield *pair, *client
    finally:
        for writer in (pair[1], client[1]):
            writer.transport.abort()
        server.close()
        for writer in (pair[1], client[1]):
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()
        await asyncio.sleep(0)


@pytest.fixture(params=["server", "client"])
def reading(request):
    """(reader, the writer of the other end) for either end of `streams`."""
    if request.param == "server":
        return lambda pair: (pair[0], pair[3])
    return lambda pair: (pair[2], pair[1])


def is_accelerated(reader):
    return isinstance(reader, asyncio.StreamReader) and type(reader) is not asyncio.StreamReader


async def arrives(reader, size):
    """Wait until the reader has so many bytes, without reading them."""
    while len(reader._buffer) < size:
        await asyncio.sleep(0)


# What is accelerated, and what is not


async def test_readers_of_connections_are_accelerated(loop, loop_name):
    async with streams() as (reader, _, client_reader, _):
        assert is_accelerated(reader) is (loop_name == "hoop")
        assert is_accelerated(client_reader) is (loop_name == "hoop")


def test_a_loop_in_debug_mode_keeps_stock_streams(loop, run):
    async def main():
        async with streams() as (reader, _, client_reader, _):
            assert type(reader) is type(client_reader) is asyncio.StreamReader

    loop.set_debug(True)
    run(main())


async def test_debug_mode_later_returns_stock_coroutines(loop):
    async with streams() as (reader, _, _, writer):
        loop.set_debug(True)
        writer.write(b"line\n")
        coroutine = reader.readline()
        assert inspect.iscoroutine(coroutine)
        assert await coroutine == b"line\n"
        loop.set_debug(False)


SUBCLASS = """
class Own(asyncio.StreamReader):
    pass
asyncio.streams.StreamReader = Own
"""
AUDIT = """
import sys
def hook(event, args):
    if event == "object.__setattr__" and args[1] == "__class__":
        raise TypeError("another layout")
sys.addaudithook(hook)
"""
OFF = """
import asyncio
{imports}

async def main():
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda r, w: accepted.set_result((r, w)), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    other, its_writer = await accepted
    print(type(reader) is type(other) is asyncio.StreamReader)
    for writer in writer, its_writer:
        writer.close()
        await writer.wait_closed()
    server.close()

with asyncio.Runner(loop_factory={factory}) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize(
    "imports, factory, env",
    [
        ("import hoop", "hoop.loop_factory(streams=False)", {}),
        ("import hoop", "hoop.new_event_loop", {"HOOP_STREAMS": "0"}),
        (SUBCLASS, "factory", {}),
        (AUDIT, "factory", {}),
    ],
    ids=["option", "environment", "subclass", "refused"],
)
def test_switched_off(script, loop_name, imports, factory, env):
    if loop_name == "asyncio":
        pytest.skip("nothing to switch off")
    done = script(OFF.format(imports=imports, factory=factory), env=env)
    expected = "False\n" if imports == SUBCLASS else "True\n"
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_classes_patched_before_the_import_of_hoop(script, loop_name):
    patch = """
original = asyncio.StreamReader.readline
async def readline(self):
    return await original(self)
asyncio.StreamReader.readline = readline
"""
    done = script(OFF.format(imports=patch, factory="factory"))
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


async def test_a_reader_made_by_hand_is_stock(loop):
    reader = asyncio.StreamReader()
    reader.feed_data(b"abc")
    assert await reader.readexactly(2) == b"ab"
    assert type(reader) is asyncio.StreamReader
    async with streams() as (accelerated, _, _, _):
        assert type(type(accelerated)(limit=5, loop=loop)) is asyncio.StreamReader


class OwnReader(asyncio.StreamReader):
    pass


class OwnProtocol(asyncio.StreamReaderProtocol):
    def data_received(self, data):
        super().data_received(data.upper())


@pytest.mark.parametrize(
    "reader_class, protocol_class",
    [(OwnReader, asyncio.StreamReaderProtocol), (asyncio.StreamReader, OwnProtocol)],
)
async def test_subclasses_stay_as_they_are(loop, reader_class, protocol_class):
    reader = reader_class(loop=loop)
    protocol = protocol_class(reader, loop=loop)
    with listener("tcp") as sock:
        transport, _ = await loop.create_connection(lambda: protocol, *sock.getsockname())
        peer, _ = sock.accept()
    with peer:
        peer.sendall(b"abc")
        expected = b"ABC" if protocol_class is OwnProtocol else b"abc"
        assert await reader.readexactly(3) == expected
    assert type(reader) is reader_class
    assert await reader.read() == b""
    transport.close()
    await protocol._closed
    await asyncio.sleep(0)


# Reading


async def test_every_way_to_read(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"one\ntwo\r\nthree;rest")
        assert await reader.readline() == b"one\n"
        assert await reader.readuntil(b"\r\n") == b"two\r\n"
        assert await reader.readexactly(3) == b"thr"
        assert await reader.readuntil(separator=b";") == b"ee;"
        assert await reader.read(n=2) == b"re"
        assert await reader.read(100) == b"st"
        assert not reader.at_eof()
        writer.write(b"x\ny\nz")
        writer.write_eof()
        assert [line async for line in reader] == [b"x\n", b"y\n", b"z"]
        assert reader.at_eof()
        assert await reader.read() == await reader.read(5) == await reader.readline() == b""
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await reader.readexactly(5)
        assert (raised.value.partial, raised.value.expected) == (b"", 5)


@pytest.mark.since((3, 13), "tuples of separators")
async def test_tuples_of_separators(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"one;two\n")
        assert await reader.readuntil((b"\n", b";")) == b"one;"
        assert await reader.readuntil((b"\n", b";")) == b"two\n"


async def test_blocked_reads_see_data_in_pieces(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)

        async def write():
            for piece in (b"a", b"b\n", b"cd", b"ef", b"\r", b"\n", b"gh"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            writer.write_eof()

        task = asyncio.create_task(write())
        assert await reader.readline() == b"ab\n"
        assert await reader.readexactly(4) == b"cdef"
        assert await reader.readuntil(b"\r\n") == b"\r\n"
        assert await reader.read() == b"gh"
        await task


async def test_much_data(loop, reading):
    data = bytes(range(256)) * 8000
    async with streams() as pair:
        reader, writer = reading(pair)

        async def write():
            for start in range(0, len(data), 70_000):
                writer.write(data[start : start + 70_000])
                await writer.drain()
            writer.write_eof()

        task = asyncio.create_task(write())
        head = await reader.readexactly(100_000)
        assert head + await reader.read() == data
        await task


async def test_the_limit_pauses_the_transport(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"x" * (2 * LIMIT + 1))
        transport = reader._transport
        while transport.is_reading():
            await asyncio.sleep(0)
        assert reader._paused
        assert len(await reader.readexactly(LIMIT)) == LIMIT
        assert reader._paused
        await reader.readexactly(1)
        assert not reader._paused
        assert transport.is_reading()


async def test_lines_over_the_limit(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"x" * (LIMIT + 1) + b"\nshort\n")
        await arrives(reader, LIMIT + 8)
        with pytest.raises(asyncio.LimitOverrunError) as overrun:
            await reader.readuntil(b"\n")
        assert overrun.value.consumed == LIMIT + 1
        with pytest.raises(ValueError, match="chunk is longer than limit") as raised:
            await reader.readline()
        assert isinstance(raised.value.__context__, asyncio.LimitOverrunError)
        assert await reader.readline() == b"short\n"
        writer.write(b"y" * (LIMIT + 1))
        with pytest.raises(ValueError, match="is not found, and chunk exceed the limit"):
            await reader.readline()
        writer.write(b"z\n")
        assert (await reader.readline()).endswith(b"z\n")


async def test_a_lost_connection_raises_in_the_reader(loop):
    async with streams() as (reader, server_writer, _, _):
        blocked = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        server_writer.transport._force_close(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await blocked
        for operation in (reader.read(1), reader.readline(), reader.readexactly(0)):
            with pytest.raises(ConnectionResetError):
                await operation


async def test_unusual_arguments(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"abcdef\n")
        await arrives(reader, 7)
        assert await reader.read(True) == b"a"
        assert await reader.readuntil(bytearray(b"c")) == b"bc"
        assert await reader.read(0) == b""
        for operation, error in (
            (reader.read("1"), TypeError),
            (reader.readexactly(-1), ValueError),
            (reader.readexactly(None), TypeError),
            (reader.readuntil(b""), ValueError),
        ):
            with pytest.raises(error):
                await operation
        for call in (
            lambda: reader.readline(1),
            lambda: reader.readexactly(),
            lambda: reader.at_eof(1),
            lambda: reader.feed_eof(1),
            lambda: reader.feed_data(),
        ):
            with pytest.raises(TypeError):
                call()
        assert await reader.read(100) == b"def\n"


# The awaitables


async def test_awaitables_are_coroutines(loop):
    async with streams() as (reader, _, _, writer):
        writer.write(b"a\n" * 8)
        coroutine = reader.readline()
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, collections.abc.Coroutine)
        assert inspect.isawaitable(coroutine)
        assert coroutine.__name__ == "readline"
        assert coroutine.__qualname__ == "StreamReader.readline"
        assert not coroutine.cr_running
        assert repr(coroutine).startswith("<coroutine object StreamReader.readline at 0x")
        assert weakref.ref(coroutine)() is coroutine
        assert await coroutine == b"a\n"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine
        task = loop.create_task(reader.readline())
        assert "StreamReader.readline" in repr(task)
        assert await task == b"a\n"
        assert await asyncio.wait_for(reader.readline(), 10) == b"a\n"
        async with asyncio.timeout(10):
            assert await reader.readline() == b"a\n"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reader.readline()) for _ in range(2)]
        assert [task.result() for task in tasks] == [b"a\n"] * 2
        assert await asyncio.gather(reader.readline(), reader.read(2)) == [b"a\n"] * 2


async def test_nothing_happens_before_it_is_awaited(loop):
    async with streams() as (reader, _, _, _):
        line = reader.readline()
        negative = reader.readexactly(-1)
        reader.feed_data(b"abc\n")
        assert await line == b"abc\n"
        with pytest.raises(ValueError):
            await negative


async def test_never_awaited_warns(loop):
    async with streams() as (reader, _, _, _):
        for _ in range(3):
            with pytest.warns(RuntimeWarning, match=r"'StreamReader\.read' was never awaited"):
                reader.read()
        with pytest.warns(RuntimeWarning, match=r"'StreamReader\.__anext__' was never awaited"):
            reader.__anext__()
        reader.readline().close()


async def test_driven_by_hand(loop):
    async with streams() as (reader, _, _, _):
        coroutine = reader.readline()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started"):
            coroutine.send(1)
        future = coroutine.send(None)
        assert future is reader._waiter
        assert asyncio.isfuture(future)
        reader.feed_data(b"x\n")
        assert reader._waiter is None
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        assert stop.value.value == b"x\n"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            coroutine.throw(ValueError)


async def test_values_of_any_size_by_await(loop):
    class Awaits:
        def __await__(self):
            return (yield from reader.readline().__await__())

    async with streams() as (reader, _, _, _):
        kept = []
        for size in (1, 900, 5, 20):
            reader.feed_data(b"x" * size + b"\n")
            with pytest.raises(StopIteration) as stop:
                next(reader.readline().__await__())
            kept.append(stop.value)
            reader.feed_data(b"y" * size + b"\n")
            assert await Awaits() == b"y" * size + b"\n"
        assert [len(stop.value) for stop in kept] == [2, 901, 6, 21]
        reader.feed_data(b"z" * 10_000)
        assert len(await reader.read(20_000)) == 10_000


async def test_throw_and_close(loop):
    async with streams() as (reader, _, _, _):
        coroutine = reader.readexactly(3)
        with pytest.raises(KeyError, match="new"):
            coroutine.throw(KeyError("new"))
        coroutine = reader.readexactly(3)
        with pytest.raises(TypeError):
            coroutine.throw(5)
        with pytest.raises(TypeError):
            coroutine.throw()
        coroutine.send(None)
        with pytest.raises(KeyError, match="suspended"):
            coroutine.throw(KeyError("suspended"))
        assert reader._waiter is None
        coroutine = reader.readexactly(3)
        coroutine.send(None)
        coroutine.close()
        coroutine.close()
        assert reader._waiter is None
        reader.feed_data(b"abc")
        assert await reader.readexactly(3) == b"abc"


async def test_running_cannot_be_entered(loop):
    async with streams() as (reader, _, _, _):
        seen = []

        class Transport:
            def resume_reading(self):
                seen.append(coroutine.cr_running)
                for enter in (lambda: coroutine.send(None), coroutine.close):
                    with pytest.raises(ValueError, match="coroutine already executing"):
                        enter()

        reader._transport, reader._paused = Transport(), True
        coroutine = reader.readline()
        coroutine.send(None)
        assert seen == [True]
        coroutine.close()


async def test_two_readers(loop):
    async with streams() as (reader, _, _, writer):
        first = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        for operation, name in (
            (reader.read(1), "read"),
            (reader.read(), "read"),
            (reader.readexactly(1), "readexactly"),
            (reader.readline(), "readuntil"),
            (reader.readuntil(b";"), "readuntil"),
            (reader.__anext__(), "readuntil"),
        ):
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) called while another coroutine"):
                await operation
        writer.write(b"line\n")
        assert await first == b"line\n"


async def test_cancelled_in_the_round_that_data_comes(loop):
    async with streams() as (reader, _, _, _):
        blocked = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        reader.feed_data(b"line\n")
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert await reader.readline() == b"line\n"

        blocked = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        blocked.cancel()
        reader.feed_data(b"next\n")
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert reader._waiter is None
        assert await reader.readline() == b"next\n"


async def test_timeouts_lose_nothing(loop):
    async with streams() as (reader, _, _, writer):
        writer.write(b"half a li")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.01)
        writer.write(b"ne\n")
        assert await reader.readline() == b"half a line\n"


# Patches


async def test_instance_methods_are_honoured(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        fed = []
        original = reader.feed_data
        reader.feed_data = lambda data: (fed.append(data), original(data))
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        assert fed == [b"one\n"]
        del reader.feed_data

        async def readline():
            return b"mine\n"

        reader.readline = readline
        assert await reader.readline() == b"mine\n"
        iterator = aiter(reader)
        assert await anext(iterator) == b"mine\n"


async def test_protocol_instance_methods_are_honoured(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        protocol = reader._transport.get_protocol()
        original = protocol.data_received
        protocol.data_received = lambda data: original(data.upper())
        writer.write(b"abc\n")
        assert await reader.readline() == b"ABC\n"


@pytest.mark.parametrize("name", ["data_received", "feed_data"])
async def test_classes_patched_later_are_honoured(loop, reading, monkeypatch, name):
    class_ = asyncio.StreamReader if name == "feed_data" else asyncio.StreamReaderProtocol
    original = getattr(class_, name)
    async with streams() as pair:
        reader, writer = reading(pair)
        writer.write(b"a\n")
        assert await reader.readline() == b"a\n"
        with monkeypatch.context() as patch:
            patch.setattr(class_, name, lambda self, data: original(self, data.upper()))
            writer.write(b"b\n")
            assert await reader.readline() == b"B\n"
        writer.write(b"c\n")
        assert await reader.readline() == b"c\n"


async def test_patched_reading_is_honoured_and_undone(loop, monkeypatch):
    async def readline(self):
        return b"patched"

    async with streams() as (reader, _, _, _):
        reader.feed_data(b"x\ny\n")
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.StreamReader, "readline", readline)
            assert await reader.readline() == b"patched"
            assert await reader.__anext__() == b"patched"
        assert await reader.readline() == b"x\n"


async def test_assigned_transport_methods_are_called(loop):
    async with streams() as (reader, _, _, writer):
        calls = []
        transport = reader._transport
        pause = transport.pause_reading
        transport.pause_reading = lambda: (calls.append("pause"), pause())
        writer.write(b"x" * (3 * LIMIT))
        while not reader._paused:
            await asyncio.sleep(0)
        assert calls == ["pause"]


async def test_set_protocol_moves_the_bytes(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        transport = reader._transport
        writer.write(b"first\n")
        assert await reader.readline() == b"first\n"

        second = asyncio.StreamReader(limit=LIMIT)
        old = transport.get_protocol()
        transport.set_protocol(asyncio.StreamReaderProtocol(second))
        writer.write(b"second\n")
        assert await second.readline() == b"second\n"
        assert not reader._buffer

        transport.set_protocol(old)
        writer.write(b"third\n")
        assert await reader.readline() == b"third\n"


async def test_a_reader_in_use_is_adopted_by_set_protocol(loop):
    async with streams() as (first, _, _, writer):
        transport = first._transport
        reader = asyncio.StreamReader(limit=LIMIT)
        reader.feed_data(b"before ")
        blocked = asyncio.create_task(reader.readexactly(12))
        await asyncio.sleep(0)
        old = transport.get_protocol()
        transport.set_protocol(asyncio.StreamReaderProtocol(reader))
        writer.write(b"after")
        assert await blocked == b"before after"
        transport.set_protocol(old)


async def test_two_transports_with_one_reader(loop):
    async with streams() as (reader, _, _, writer), streams() as (other, _, _, its_writer):
        protocol = asyncio.StreamReaderProtocol(reader)
        old = other._transport.get_protocol()
        other._transport.set_protocol(protocol)
        its_writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        writer.write(b"two\n")
        assert await reader.readline() == b"two\n"
        other._transport.set_protocol(old)


# Attributes


async def test_attributes_are_seen_and_set(loop, reading):
    async with streams() as pair:
        reader, writer = reading(pair)
        assert reader._loop is loop
        assert reader._limit == LIMIT
        assert reader._buffer == bytearray()
        assert (reader._eof, reader._paused) == (False, False)
        assert reader._waiter is reader._exception is None
        assert isinstance(reader._transport, asyncio.Transport)
        assert reader.exception() is None

        reader._limit = 5
        assert reader._limit == 5
        assert "limit=5" in repr(reader)
        reader._eof = True
        assert reader.at_eof()
        reader._eof = False
        reader.own = 1
        assert reader.own == 1
        for name in ("_limit", "_loop", "_eof", "_waiter", "_buffer", "_transport"):
            if is_accelerated(reader):
                with pytest.raises(AttributeError):
                    delattr(reader, name)
        with pytest.raises(AssertionError, match="Transport already set"):
            reader.set_transport(reader._transport)

        writer.write(b"abc")
        await arrives(reader, 3)
        assert "3 bytes" in repr(reader)
        buffer = reader._buffer
        assert await reader.read(2) == b"ab"
        assert buffer == b"c"
        buffer += b"d"
        assert await reader.read(5) == b"cd"
        reader._buffer = bytearray(b"new")
        assert await reader.readexactly(3) == b"new"


async def test_odd_attributes(loop):
    async with streams() as (reader, _, _, _):
        reader.feed_data(b"abc\n")
        reader._limit = 10.5
        assert reader._limit == 10.5
        assert await reader.readline() == b"abc\n"
        reader._limit = 2**80
        reader.feed_data(b"abc\n")
        assert await reader.readline() == b"abc\n"
        reader._limit = 10
        reader._loop = other = asyncio.new_event_loop()
        assert reader._loop is other
        reader._loop = loop
        other.close()
        if is_accelerated(reader):
            with pytest.raises(TypeError, match="_buffer must be a bytearray"):
                reader._buffer = b"bytes"


async def test_a_state_that_was_taken_away(loop, loop_name):
    if loop_name == "asyncio":
        pytest.skip("asyncio's reader has no such thing")
    async with streams() as (reader, _, _, writer):
        state = reader._hoop_stream
        for damage in (lambda: delattr(reader, "_hoop_stream"), lambda: None):
            damage()
            for use in (
                lambda: reader.readline(),
                lambda: reader.at_eof(),
                lambda: reader.feed_eof(),
                lambda: reader.feed_data(b"x"),
                lambda: reader.exception(),
                lambda: reader._buffer,
                lambda: reader._eof,
                lambda: reader._limit,
                lambda: setattr(reader, "_buffer", bytearray()),
                lambda: setattr(reader, "_eof", True),
                lambda: setattr(reader, "_limit", 1),
                lambda: setattr(reader, "_loop", loop),
                lambda: setattr(reader, "_waiter", None),
                lambda: setattr(reader, "feed_data", None),
            ):
                with pytest.raises(AttributeError, match="_hoop_stream"):
                    use()
            reader.__dict__.pop("feed_data", None)
            reader._hoop_stream = "another"
        reader._hoop_stream = state
        writer.write(b"x\n")
        assert await reader.readline() == b"x\n"


async def test_feeding_by_hand(loop):
    async with streams() as (reader, _, _, _):
        reader.feed_data(b"")
        reader.feed_data(bytearray(b"ab"))
        reader.feed_data(memoryview(b"cd"))
        assert await reader.readexactly(4) == b"abcd"
        reader.feed_eof()
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            reader.feed_data(b"x")
        assert await reader.read() == b""


async def test_an_exported_buffer_cannot_change_its_size(loop):
    async with streams() as (reader, _, _, _):
        reader.feed_data(b"abc")
        with memoryview(reader._buffer):
            with pytest.raises(BufferError):
                reader.feed_data(b"d")
            with pytest.raises(BufferError):
                await reader.read(2)
        assert await reader.read(5) == b"abc"


async def test_exceptions_by_hand(loop):
    async with streams() as (reader, _, _, _):
        reader.set_exception(KeyError)
        with pytest.raises(KeyError):
            await reader.read(1)
        reader._exception = 5
        with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
            await reader.read(1)
        reader._exception = None
        reader.feed_data(b"x")
        assert await reader.read(1) == b"x"


async def test_a_loop_with_its_own_futures(loop):
    class Own:
        def __init__(self, future):
            self.future = future

        def __await__(self):
            return (yield from self.future)

        def set_result(self, result):
            self.future.set_result(result)

        def cancelled(self):
            return self.future.cancelled()

    async with streams() as (reader, _, _, writer):
        create_future = loop.create_future
        loop.create_future = lambda: Own(create_future())
        blocked = asyncio.create_task(reader.read(5))
        await asyncio.sleep(0)
        assert isinstance(reader._waiter, Own)
        writer.write(b"x")
        assert await blocked == b"x"
        loop.create_future = object
        with pytest.raises(TypeError, match=r"can't be (used in 'await' expr|awaited)"):
            await reader.read(1)
        assert reader._waiter is None
        del loop.create_future


# Memory


async def test_a_reader_nobody_has_drops_what_comes(loop):
    async with streams() as pair:
        reader, writer = pair[0], pair[3]
        transport = reader._transport
        reference = weakref.ref(reader)
        pair[1]._reader = None
        del reader, pair
        gc.collect()
        if reference() is None:
            writer.write(b"x" * 100)
            for _ in range(3):
                await asyncio.sleep(0.001)
            assert not transport.is_closing()


async def test_an_abandoned_read_is_collected(loop):
    async with streams() as (reader, _, _, _):
        coroutine = reader.readline()
        coroutine.send(None)
        reader.cycle = coroutine
        reference = weakref.ref(coroutine)
        del coroutine
        del reader.cycle
        gc.collect()
        assert reference() is None
        assert reader._waiter is None


def test_connections_leave_nothing_behind(loop, run):
    references = []

    async def main():
        async with streams() as (reader, _, client_reader, writer):
            writer.write(b"some\nbytes")
            assert await reader.readline() == b"some\n"
            references.extend([weakref.ref(reader), weakref.ref(client_reader)])

    run(main())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.since((3, 12), "start_tls on the server's side")
async def test_start_tls_hands_over(loop):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context)
        writer.write((await reader.readline()).upper())
        await writer.drain()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address_of(server))
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context, server_hostname="localhost")
    writer.write(b"hello\n")
    assert await reader.readline() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_stop_iterations_that_were_caught_gather_no_tracebacks(loop):
    async with streams() as (reader, _, _, _):
        seen = set()
        for _ in range(4):
            reader.feed_data(b"line\n")
            iterator = reader.readline().__await__()
            try:
                next(iterator)
            except StopIteration as stop:
                mine = [
                    frame
                    for frame, _ in traceback.walk_tb(stop.__traceback__)
                    if frame.f_code.co_filename == __file__
                ]
                seen.add((len(mine), stop.value, stop.args))
                del mine
        assert seen == {(1, b"line\n", (b"line\n",))}
