# SPDX-License-Identifier: MIT
"""Protocols that raise: the exception handler hears of it, the loop and the server go on."""

import asyncio
import socket

import pytest
from loopkit import (
    BufferedRecorder,
    Echo,
    Recorder,
    address_of,
    connect,
    connect_to,
    connection,
    in_thread,
    open_fds,
    read_all,
    read_exactly,
    start_server,
)

MIB = 1 << 20


class Oops(Exception):
    pass


def failing(method, *, buffered=False, exception=Oops, times=1000):
    """A protocol class whose `method` raises after it has noted the call (the first `times`)."""
    base = BufferedRecorder if buffered else Recorder
    left = times

    def fail(self, *args):
        nonlocal left
        result = getattr(base, method)(self, *args)
        left -= 1
        if left >= 0:
            raise exception(method)
        return result

    return type("Failing", (base,), {method: fail})


def check(context, message, protocol, exception=Oops):
    assert message in context["message"]
    assert isinstance(context["exception"], exception)
    assert context["protocol"] is protocol
    assert isinstance(context["transport"], asyncio.BaseTransport)


async def test_data_received(connection, loop, errors):
    async with connection(failing("data_received")) as (transport, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
        assert transport.is_closing()
    context = errors.pop()
    check(context, "Fatal error: protocol.data_received() call failed.", protocol)
    assert context["transport"] is transport
    assert protocol.exception is context["exception"]


async def test_eof_received(connection, loop, errors):
    async with connection(failing("eof_received")) as (_, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("connection_lost")
    context = errors.pop()
    check(context, "Fatal error: protocol.eof_received() call failed.", protocol)
    assert protocol.exception is context["exception"]


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
async def test_buffered_methods(connection, loop, errors, method):
    async with connection(failing(method, buffered=True)) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    context = errors.pop()
    check(context, f"Fatal error: protocol.{method}() call failed.", protocol)
    assert protocol.exception is context["exception"]


@pytest.mark.parametrize(
    "value, exception",
    [
        (bytearray(), RuntimeError),
        (memoryview(bytearray()), RuntimeError),
        (None, TypeError),
        (5, TypeError),
    ],
)
async def test_get_buffer_that_returns_no_buffer(any_connection, loop, errors, value, exception):
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint):
            return value

    async with any_connection(Bad) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    context = errors.pop()
    check(context, "Fatal error: protocol.get_buffer() call failed.", protocol, exception)
    if exception is RuntimeError:
        assert str(context["exception"]) == "get_buffer() returned an empty buffer"


async def test_get_buffer_that_returns_a_read_only_buffer(any_connection, loop, errors):
    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint):
            return b"read only"

    async with any_connection(Bad) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    assert isinstance(errors.pop()["exception"], (TypeError, BufferError))
    assert isinstance(protocol.exception, (TypeError, BufferError))


async def test_connection_made(connection, loop, errors):
    """Reported as of any callback; the connection stays, as with asyncio."""
    async with connection(failing("connection_made")) as (transport, protocol, peer):
        await asyncio.sleep(0)
        context = errors.pop()
        assert isinstance(context["exception"], Oops)
        transport.abort()
        await protocol.seen("connection_lost")
        assert await in_thread(read_all, peer) == b""


async def test_connection_lost(connection, loop, errors):
    async with connection(failing("connection_lost")) as (transport, protocol, peer):
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert isinstance(errors.pop()["exception"], Oops)
        assert await in_thread(read_all, peer) == b""
        await asyncio.sleep(0)
    assert protocol.events.count("connection_lost") == 1


async def test_connection_lost_after_another_error(connection, loop, errors):
    class TwiceFailing(Recorder):
        def data_received(self, data):
            raise Oops("first")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise Oops("second")

    async with connection(TwiceFailing) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
    assert [str(context["exception"]) for context in errors] == ["first", "second"]
    errors.clear()


async def test_pause_writing(connection, loop, errors):
    """The data is kept and sent; nothing ends."""
    async with connection(failing("pause_writing")) as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        check(errors.pop(), "protocol.pause_writing() failed", protocol)
        assert not transport.is_closing()
        assert len(await in_thread(read_exactly, peer, 8 * MIB)) == 8 * MIB
        await protocol.seen("resume_writing")


async def test_resume_writing(connection, loop, errors):
    async with connection(failing("resume_writing")) as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        assert len(await in_thread(read_exactly, peer, 8 * MIB)) == 8 * MIB
        await protocol.seen("resume_writing")
        check(errors.pop(), "protocol.resume_writing() failed", protocol)
        transport.write(b"more")
        assert await in_thread(read_exactly, peer, 4) == b"more"


@pytest.mark.parametrize("base", [BaseException, Exception])
async def test_exceptions_that_are_no_ordinary_exceptions(any_connection, loop, errors, base):
    custom = type("Custom", (base,), {})
    protocol_class = failing("data_received", exception=custom)
    async with any_connection(protocol_class) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    check(errors.pop(), "data_received() call failed", protocol, custom)


async def test_os_error_of_a_protocol_is_no_error_of_the_socket(any_connection, loop, errors):
    """asyncio keeps OSErrors of data_received to itself; telling the handler is allowed."""
    async with any_connection(failing("data_received", exception=OSError)) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, OSError)
    errors.clear()


async def test_cancelled_error_of_a_protocol(any_connection, loop, errors):
    protocol_class = failing("data_received", exception=asyncio.CancelledError)
    async with any_connection(protocol_class) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    check(errors.pop(), "data_received() call failed", protocol, asyncio.CancelledError)


EXITING = [
    ("connection_made", False),
    ("data_received", False),
    ("eof_received", False),
    ("get_buffer", True),
    ("buffer_updated", True),
    ("connection_lost", False),
    ("pause_writing", False),
    ("resume_writing", False),
]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("method, buffered", EXITING)
def test_exit_leaves_the_loop(loop, loop_name, errors, exception, method, buffered):
    """And the loop can run again."""
    protocols = []

    def make():
        protocols.append(failing(method, buffered=buffered, exception=exception, times=1)())
        return protocols[-1]

    left, right = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(make, sock=left)
        if method == "connection_lost":
            transport.close()
        elif method in ("pause_writing", "resume_writing"):
            transport.write(b"x" * 8 * MIB)
            await loop.run_in_executor(None, read_exactly, right, 8 * MIB)
        else:
            right.sendall(b"x")
            right.shutdown(socket.SHUT_WR)
        await asyncio.sleep(20)

    with right:
        right.settimeout(20)
        task = loop.create_task(main())
        with pytest.raises(exception, match=method):
            loop.run_until_complete(task)
        assert not loop.is_running()
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
        (protocol,) = protocols

        async def finish():
            if "connection_lost" not in protocol.events:
                protocol.transport.abort()
            await protocol.seen("connection_lost")
            await asyncio.sleep(0)

        loop.run_until_complete(finish())
    if loop_name == "asyncio" and method == "resume_writing":
        errors.clear()  # it goes on watching for writability with nothing to write


def test_exit_of_a_server_protocol_leaves_the_loop(loop, kind):
    async def start():
        return await start_server(kind, failing("data_received", exception=SystemExit))

    server = loop.run_until_complete(start())
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"x")
        with pytest.raises(SystemExit):
            loop.run_forever()
        server.close()
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.stock_fails("silent outside debug mode, and the socket is left to the collector")
async def test_factory_of_a_server(loop, kind, errors, debug):
    """Reported, the connection closed, and the next one served."""
    loop.set_debug(debug)
    fail = True

    def make():
        if fail:
            raise Oops("factory")
        return Echo()

    server = await start_server(kind, make)
    before = open_fds()
    with connect_to(address_of(server)) as peer:
        assert await in_thread(read_all, peer) == b""
    context = errors.pop()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], Oops)
    assert open_fds() == before
    fail = False
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"hello")
        assert await in_thread(read_exactly, peer, 5) == b"hello"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.stock_fails("the factory runs in a task nobody awaits; the socket is leaked")
def test_exit_of_a_server_factory_leaves_the_loop(loop, kind, exception):
    def make():
        raise exception

    async def start():
        return await start_server(kind, make)

    server = loop.run_until_complete(start())
    with connect_to(address_of(server)) as peer:
        with pytest.raises(exception):
            loop.run_forever()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        assert read_all(peer) == b""


@pytest.mark.stock_fails("the socket is left to the collector (gh-153133)", before=(3, 14, 8))
async def test_factory_of_a_client(loop, kind):
    """create_connection raises what the factory raised."""

    def make():
        raise Oops("factory")

    server = await start_server(kind, Recorder)
    before = open_fds()
    with pytest.raises(Oops, match="factory"):
        await connect(address_of(server), make)
    for _ in range(200):
        if open_fds() == before:
            break
        await asyncio.sleep(0.001)
    server.close()
    await server.wait_closed()


async def test_server_goes_on_after_each_kind_of_failure(loop, kind, errors):
    methods = ["connection_made", "data_received", "eof_received", "connection_lost"]
    todo = [failing(method) for method in methods] + [Echo]

    server = await start_server(kind, lambda: todo.pop(0)())
    for _ in methods:
        with connect_to(address_of(server)) as peer:
            peer.sendall(b"x")
            peer.shutdown(socket.SHUT_WR)
            await in_thread(read_all, peer)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"still here")
        assert await in_thread(read_exactly, peer, 10) == b"still here"
    assert [str(context["exception"]) for context in errors] == methods
    errors.clear()
    server.close()
    await server.wait_closed()


async def test_failure_of_one_connection_leaves_the_others(loop, kind, errors):
    todo = [Echo, failing("data_received"), Echo]
    server = await start_server(kind, lambda: todo.pop(0)())
    peers = [connect_to(address_of(server)) for _ in range(3)]
    for peer in peers:
        peer.sendall(b"hi")
    assert await in_thread(read_exactly, peers[0], 2) == b"hi"
    assert await in_thread(read_all, peers[1]) == b""
    assert await in_thread(read_exactly, peers[2], 2) == b"hi"
    for peer in peers:
        peer.close()
    assert isinstance(errors.pop()["exception"], Oops)
    server.close()
    await server.wait_closed()


async def test_exception_has_a_traceback_into_the_protocol(any_connection, loop, errors):
    import traceback

    async with any_connection(failing("data_received")) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    frames = traceback.extract_tb(errors.pop()["exception"].__traceback__)
    assert frames[-1].name == "fail"


async def test_handler_runs_before_connection_lost(loop, errors):
    async with connection("tcp", "server", failing("data_received")) as (_, protocol, peer):
        seen = []
        loop.set_exception_handler(lambda *_: seen.append(list(protocol.events)))
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
        assert seen == [["connection_made", "data_received"]]
