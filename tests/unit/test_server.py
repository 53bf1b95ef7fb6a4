# SPDX-License-Identifier: MIT
"""create_server and create_unix_server with every argument, and the server object."""

import asyncio
import contextlib
import inspect
import os
import pathlib
import socket
import stat
import struct
import tempfile

import pytest
from loopkit import (
    Echo,
    Recorder,
    address_of,
    connect_to,
    in_thread,
    open_fds,
    read_all,
    read_exactly,
    start_server,
)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="hoop") as name:
        yield pathlib.Path(name)


async def check_echo(address):
    with connect_to(address) as peer:
        peer.sendall(b"hello")
        assert await in_thread(read_exactly, peer, 5) == b"hello"


async def closed(server):
    server.close()
    await server.wait_closed()


async def test_is_an_asyncio_server(loop, kind):
    server = await start_server(kind, Echo)
    assert isinstance(server, asyncio.AbstractServer)
    assert isinstance(server, asyncio.Server)
    assert server.get_loop() is loop
    assert server.is_serving()
    (sock,) = server.sockets
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert sock.type == socket.SOCK_STREAM
    assert sock.gettimeout() == 0
    assert not os.get_inheritable(sock.fileno())
    assert repr(server).startswith("<Server sockets=")
    await closed(server)
    assert not server.is_serving()
    assert server.sockets == ()


@pytest.mark.parametrize("host", ["127.0.0.1", None, "", ["127.0.0.1"], ("127.0.0.1", "127.0.0.1")])
async def test_hosts(loop, host):
    server = await loop.create_server(Echo, host, 0, family=socket.AF_INET)
    assert len(server.sockets) == 1
    await check_echo(("127.0.0.1", address_of(server)[1]))
    await closed(server)


async def test_several_hosts(loop):
    server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0)
    addresses = [sock.getsockname() for sock in server.sockets]
    assert sorted(host for host, _ in addresses) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    for address in addresses:
        await check_echo(address)
    await closed(server)


async def test_both_families(loop):
    server = await loop.create_server(Echo, None, 0)
    families = {sock.family for sock in server.sockets}
    assert socket.AF_INET in families
    await closed(server)


async def test_flags_and_port_as_text(loop):
    server = await loop.create_server(
        Echo, "127.0.0.1", "0", flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
    )
    await check_echo(address_of(server))
    await closed(server)


async def test_numeric_host_is_demanded_by_a_flag(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_server(Echo, "no.number", 0, flags=socket.AI_NUMERICHOST)


@pytest.mark.parametrize("bound", [True, False])
async def test_socket_passed_in(loop, bound):
    sock = socket.socket()
    if bound:
        sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Echo, sock=sock)
    assert server.sockets[0].fileno() == sock.fileno()
    await check_echo(("127.0.0.1", address_of(server)[1]))
    await closed(server)
    assert sock.fileno() == -1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"host": "127.0.0.1", "port": 0, "sock": 1}, "can not be specified at the same time"),
        ({}, "Neither host/port nor sock were specified"),
        ({"host": "127.0.0.1", "port": 0, "ssl": True}, "ssl argument must be an SSLContext"),
        (
            {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1},
            "ssl_shutdown_timeout is only meaningful with ssl",
        ),
    ],
)
async def test_contradicting_arguments(loop, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        await loop.create_server(Echo, **arguments)


async def test_unknown_argument(loop):
    with pytest.raises(TypeError, match="nonsense"):
        await loop.create_server(Echo, "127.0.0.1", 0, nonsense=1)


async def test_address_in_use(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    before = open_fds()
    with pytest.raises(OSError, match="error while attempting to bind on address"):
        await loop.create_server(Echo, *address_of(server))
    assert open_fds() == before
    await closed(server)


async def test_reuse_address(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
    await closed(server)
    server = await loop.create_server(Echo, "127.0.0.1", 0, reuse_address=False)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    await closed(server)


async def test_reuse_port(loop):
    first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
    second = await loop.create_server(Echo, *address_of(first), reuse_port=True)
    assert address_of(first) == address_of(second)
    for _ in range(8):
        await check_echo(address_of(first))
    await closed(first)
    await check_echo(address_of(second))
    await closed(second)


async def test_keep_alive(loop):
    if "keep_alive" not in inspect.signature(asyncio.SelectorEventLoop.create_server).parameters:
        pytest.skip("create_server(keep_alive=) came later")
    for value in (True, False, None):
        server = await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=value)
        option = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert bool(option) is bool(value)
        await closed(server)


@pytest.mark.parametrize("backlog", [1, 5, 1000])
async def test_backlog(loop, kind, backlog):
    server = await start_server(kind, Echo, backlog=backlog)
    for _ in range(5):
        await check_echo(address_of(server))
    await closed(server)


async def test_start_serving_later(loop, kind):
    server = await start_server(kind, Echo, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        connect_to(address_of(server))
    await server.start_serving()
    assert server.is_serving()
    await server.start_serving()
    await check_echo(address_of(server))
    await closed(server)


async def test_serve_forever(loop, kind):
    server = await start_server(kind, Echo, start_serving=False)
    task = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    await check_echo(address_of(server))
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    assert server.sockets == ()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_close_ends_serve_forever(loop):
    server = await start_server("tcp", Echo)
    task = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_async_with(loop, kind):
    async with await start_server(kind, Echo) as server:
        assert server.is_serving()
        await check_echo(address_of(server))
    assert not server.is_serving()
    assert server.sockets == ()


async def test_close(loop, kind):
    """Existing connections go on, new ones are refused, and close() may be called again."""
    server = await start_server(kind, Echo)
    address = address_of(server)
    with connect_to(address) as peer:
        peer.sendall(b"1")
        assert await in_thread(read_exactly, peer, 1) == b"1"
        server.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            connect_to(address)
        peer.sendall(b"2")
        assert await in_thread(read_exactly, peer, 1) == b"2"
    await server.wait_closed()


@pytest.mark.since((3, 12, 1), "wait_closed that waits for connections")
async def test_wait_closed_waits_for_connections(loop, kind):
    server = await start_server(kind, Echo)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"1")
        assert await in_thread(read_exactly, peer, 1) == b"1"
        server.close()
        waiter = asyncio.ensure_future(server.wait_closed())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiter.done()
    await asyncio.wait_for(waiter, 20)
    await server.wait_closed()


@pytest.mark.since((3, 12, 1), "wait_closed that waits for close()")
async def test_wait_closed_waits_for_close(loop):
    server = await start_server("tcp", Echo)
    waiter = asyncio.ensure_future(server.wait_closed())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiter.done()
    server.close()
    await asyncio.wait_for(waiter, 20)


@pytest.mark.since((3, 12, 1), "wait_closed that waits for connections")
async def test_wait_closed_counts_connections_that_failed(loop, kind, errors):
    """A protocol that raises anywhere is not waited for after its connection has ended."""

    class Fail(Recorder):
        def data_received(self, data):
            raise ValueError

        def connection_lost(self, exc):
            raise ValueError

    server = await start_server(kind, Fail)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"x")
        await in_thread(read_all, peer)
    await asyncio.wait_for(closed(server), 20)
    assert len(errors) == 2
    errors.clear()


@pytest.mark.since((3, 13), "Server.close_clients()")
async def test_close_clients(loop, kind):
    protocols = []

    def make():
        protocols.append(Recorder())
        return protocols[-1]

    server = await start_server(kind, make)
    peers = [connect_to(address_of(server)) for _ in range(3)]
    while len(protocols) < 3 or not all(p.transport for p in protocols):
        await asyncio.sleep(0)
    protocols[0].transport.write(b"x" * 1000)
    server.close()
    server.close_clients()
    received = [await in_thread(read_all, peer) for peer in peers]
    assert sorted(map(len, received)) == [0, 0, 1000]
    await asyncio.wait_for(server.wait_closed(), 20)
    for peer, protocol in zip(peers, protocols, strict=True):
        peer.close()
        assert protocol.events[-1] == "connection_lost"
        assert protocol.exception is None


@pytest.mark.since((3, 13), "Server.abort_clients()")
async def test_abort_clients(loop, kind):
    protocols = []

    def make():
        protocols.append(Recorder())
        return protocols[-1]

    server = await start_server(kind, make)
    with connect_to(address_of(server)) as peer:
        while not protocols or not protocols[0].transport:
            await asyncio.sleep(0)
        protocols[0].transport.write(b"x" * (8 << 20))
        server.close()
        server.abort_clients()
        await asyncio.wait_for(server.wait_closed(), 20)
        assert len(await in_thread(read_all, peer)) < 8 << 20
    server.close_clients()
    server.abort_clients()


async def test_attributes(loop):
    """Tools hang attributes on servers; websockets reads _ssl_context."""
    server = await start_server("tcp", Echo)
    server.foo = 1
    assert server.foo == 1
    assert server._ssl_context is None
    await closed(server)


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
async def test_unix_path(loop, folder, form):
    path = folder / "socket"
    server = await loop.create_unix_server(Echo, form(str(path)))
    assert address_of(server) == str(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    await check_echo(str(path))
    transport, protocol = await loop.create_unix_connection(Recorder, form(str(path)))
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"
    transport.close()
    await protocol.seen("connection_lost")
    await closed(server)


@pytest.mark.parametrize("form", [str, bytes])
async def test_abstract_unix_name(loop, form):
    name = f"\0hoop-test-abstract-{os.getpid()}"
    given = name if form is str else name.encode()
    server = await loop.create_unix_server(Echo, given)
    assert address_of(server) == name.encode()
    await check_echo(name)
    with pytest.raises(OSError):
        await loop.create_unix_server(Echo, given)
    await closed(server)


async def test_stale_unix_socket_is_replaced(loop, folder):
    path = folder / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = await loop.create_unix_server(Echo, path)
    await check_echo(str(path))
    await closed(server)


async def test_unix_path_that_is_a_file_or_too_long(loop, folder):
    path = folder / "file"
    path.write_text("keep me")
    with pytest.raises(OSError):
        await loop.create_unix_server(Echo, path)
    assert path.read_text() == "keep me"
    with pytest.raises(OSError):
        await loop.create_unix_server(Echo, str(folder / ("x" * 200)))
    with pytest.raises(OSError):
        await loop.create_unix_server(Echo, folder / "missing" / "socket")


async def test_unix_socket_passed_in(loop, folder):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "socket"))
    server = await loop.create_unix_server(Echo, sock=sock)
    await check_echo(str(folder / "socket"))
    await closed(server)
    with (
        socket.socket() as tcp,
        pytest.raises(ValueError, match="UNIX Domain Stream Socket was expected"),
    ):
        await loop.create_unix_server(Echo, sock=tcp)


@pytest.mark.parametrize(
    "arguments, message",
    [({}, "path was not specified, and no sock"), ({"path": "x", "sock": 1}, "at the same time")],
)
async def test_contradicting_unix_arguments(loop, arguments, message):
    with pytest.raises(ValueError, match=message):
        await loop.create_unix_server(Echo, **arguments)


@pytest.mark.since((3, 13), "cleanup_socket")
@pytest.mark.parametrize("cleanup", [None, True, False])
async def test_cleanup_socket(loop, folder, cleanup):
    path = folder / "socket"
    options = {} if cleanup is None else {"cleanup_socket": cleanup}
    server = await loop.create_unix_server(Echo, path, **options)
    await closed(server)
    assert path.exists() is (cleanup is False)


@pytest.mark.since((3, 13), "cleanup_socket")
async def test_cleanup_leaves_a_socket_that_was_replaced(loop, folder):
    path = folder / "socket"
    server = await loop.create_unix_server(Echo, path)
    path.unlink()
    other = await loop.create_unix_server(Echo, path, cleanup_socket=False)
    await closed(server)
    assert path.exists()
    await closed(other)


@pytest.mark.since((3, 13), "cleanup_socket")
async def test_cleanup_of_a_path_that_is_gone(loop, folder):
    path = folder / "socket"
    server = await loop.create_unix_server(Echo, path)
    path.unlink()
    await closed(server)


async def test_streams(loop, kind, folder):
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    if kind == "tcp":
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*address_of(server))
    else:
        server = await asyncio.start_unix_server(handle, folder / "socket")
        reader, writer = await asyncio.open_unix_connection(folder / "socket")
    writer.writelines([b"one\n", b"two\n"])
    assert await reader.readline() == b"ONE\n"
    assert await reader.readexactly(4) == b"TWO\n"
    big = b"x" * 60_000 + b"\n"
    writer.write(big)
    await writer.drain()
    assert await reader.readuntil(b"\n") == big.upper()
    writer.write(b"last")
    writer.write_eof()
    assert await reader.read() == b"LAST"
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()
    await closed(server)


async def test_stream_flow_control(loop):
    """drain() waits for a peer that doesn't read."""
    release = asyncio.Event()
    total = 0

    async def handle(reader, writer):
        nonlocal total
        await release.wait()
        while chunk := await reader.read(1 << 16):
            total += len(chunk)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*address_of(server))
    writer.write(b"x" * (16 << 20))
    draining = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    release.set()
    await draining
    writer.close()
    await writer.wait_closed()
    while total < 16 << 20:
        await asyncio.sleep(0.001)
    await closed(server)


async def test_connections_that_are_gone_before_they_are_accepted(loop):
    server = await start_server("tcp", Echo)
    for _ in range(20):
        peer = connect_to(address_of(server))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    await check_echo(address_of(server))
    await closed(server)


@pytest.mark.stock_fails("the transport asserts that its server is open; the peer waits for ever")
async def test_close_in_the_factory(loop, kind):
    """The server is closed while it accepts; the connection in hand is still served or closed."""

    def make():
        server.close()
        return Echo()

    server = await start_server(kind, make)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"x")
        with contextlib.suppress(ConnectionResetError):
            assert await in_thread(peer.recv, 1) in (b"x", b"")
    await asyncio.sleep(0.001)
    assert not server.is_serving()


async def test_close_with_connections_waiting_in_the_backlog(loop, kind):
    """They are ended with the server or served; nobody waits for ever."""
    server = await start_server(kind, Echo)
    peers = [connect_to(address_of(server)) for _ in range(5)]
    server.close()
    for peer in peers:
        with peer, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            peer.sendall(b"x")
            assert await in_thread(peer.recv, 1) in (b"x", b"")
    await server.wait_closed()


def emfile_script(connections):
    return f"""
        import asyncio, os, resource, socket, threading

        reports = []

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                self.transport.write(data)

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: reports.append(context))
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            peers = [socket.create_connection(address, 20) for _ in range({connections})]
            held = []
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(p.fileno() for p in peers) + 4, hard))
            try:
                while True:
                    held.append(os.dup(0))
            except OSError:
                pass
            await asyncio.sleep(0.1)
            only_os_errors = all(isinstance(c["exception"], OSError) for c in reports)
            named = "socket" in reports[0] and "accept" in reports[0]["message"]
            print("episode", len(reports), only_os_errors, named)
            for fd in held:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

            def talk():
                for peer in peers:
                    peer.sendall(b"hello")
                    assert peer.recv(5) == b"hello"
                    peer.close()

            await asyncio.to_thread(talk)
            print("served", len(reports))
            server.close()
            await server.wait_closed()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        """


def test_out_of_descriptors(script):
    """The exception handler hears of it, and everybody is served once there are descriptors."""
    done = script(emfile_script(connections=5))
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith("episode")
    assert int(first.split()[1]) >= 1
    assert first.split()[2:] == ["True", "True"]
    assert second.startswith("served")


@pytest.mark.stock_fails("it reports each attempt of a whole backlog")
def test_out_of_descriptors_is_reported_once_an_episode(script):
    done = script(emfile_script(connections=5))
    assert done.stdout.splitlines() == ["episode 1 True True", "served 1"]


def test_out_of_descriptors_does_not_spin(script):
    code = emfile_script(connections=2).replace(
        "await asyncio.sleep(0.1)",
        "import time; start = time.thread_time(); await asyncio.sleep(0.2);"
        " print('cpu', time.thread_time() - start < 0.1)",
    )
    done = script(code)
    assert done.stdout.splitlines()[0] == "cpu True"
