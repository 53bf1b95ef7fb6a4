# SPDX-License-Identifier: MIT
"""What a transport tells about itself, its attributes, contexts, and sockets passed in."""

import asyncio
import contextvars
import os
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
    connection,
    in_thread,
    listener,
    read_all,
    read_exactly,
    start_server,
)


async def test_is_an_asyncio_transport(connection, loop):
    async with connection() as (transport, protocol, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert transport.get_protocol() is protocol
        assert weakref.ref(transport)() is transport
        assert isinstance(hash(transport), int)
        assert transport == transport


async def test_names_of_a_tcp_connection(role, loop):
    async with connection("tcp", role) as (transport, protocol, peer):
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") is not None


async def test_names_of_a_unix_connection(role, loop):
    async with connection("unix", role) as (transport, _, peer):
        expected = peer.getsockname() if role == "client" else ""
        peername = transport.get_extra_info("peername")
        assert peername == expected
        assert transport.get_extra_info("sockname") == peer.getpeername()


async def test_unknown_extra_info(connection, loop):
    async with connection() as (transport, protocol, _):
        for _ in range(2):
            assert transport.get_extra_info("nonsense") is None
            assert transport.get_extra_info("nonsense", 5) == 5
            assert transport.get_extra_info("nonsense", default=6) == 6
            assert transport.get_extra_info("sslcontext") is None
            assert transport.get_extra_info("peername", "default") != "default"
            transport.close()
            await protocol.seen("connection_lost")


async def test_names_inside_the_callbacks(connection, loop):
    seen = {}

    class Asking(Recorder):
        def note(self, where):
            seen[where] = self.transport.get_extra_info("peername")

        def connection_made(self, transport):
            super().connection_made(transport)
            self.note("made")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.note("lost")

    async with connection(Asking) as (transport, protocol, peer):
        transport.close()
        await protocol.seen("connection_lost")
    assert seen["made"] == seen["lost"] is not None


async def test_peername_of_a_peer_that_was_gone_before_accept(loop):
    """An accepted connection knows its peer although it has been reset meanwhile."""
    made = []

    class Asking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(transport.get_extra_info("peername"))

    server = await start_server("tcp", Asking)
    peer = connect_to(address_of(server))
    name = peer.getsockname()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    for _ in range(100):
        if made:
            break
        await asyncio.sleep(0.001)
    # The kernel may report the aborted connection to accept() or drop it.
    assert made in ([], [name])
    server.close()
    await server.wait_closed()


async def test_socket(connection, loop, kind):
    async with connection() as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert transport.get_extra_info("socket") is sock
        assert sock.fileno() >= 0
        assert sock.family == (socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockname() == transport.get_extra_info("sockname")
        assert sock.getpeername() == transport.get_extra_info("peername")
        assert sock.gettimeout() == 0
        with pytest.raises(ValueError, match="transport sockets"):
            sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert os.get_inheritable(sock.fileno()) is False
        duplicate = sock.dup()
        duplicate.close()
        assert "TransportSocket" in repr(sock)
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert transport.get_extra_info("socket").fileno() == -1


async def test_no_delay_is_set(role, loop):
    async with connection("tcp", role) as (transport, _, _):
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.stock_fails("it looks at the protocol number, which is 0 for sockets passed in")
async def test_no_delay_is_set_on_sockets_passed_in(loop):
    """uvicorn binds its socket itself."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    sock.bind(("127.0.0.1", 0))
    made = []

    class Server(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(transport)

    server = await loop.create_server(Server, sock=sock)
    with connect_to(address_of(server)):
        while not made:
            await asyncio.sleep(0)
        accepted = made[0].get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        made[0].abort()
        await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


async def test_attributes_can_be_assigned(connection, loop):
    """Tools wrap transport.write and hang their own data on transports."""
    async with connection() as (transport, protocol, peer):
        written = []
        original = transport.write

        def write(data):
            written.append(data)
            original(data)

        transport.write = write
        transport.foo = 1
        transport.write(b"hello")
        assert written == [b"hello"]
        assert transport.foo == 1
        assert await in_thread(read_exactly, peer, 5) == b"hello"
        del transport.write, transport.foo
        transport.write(b"again")
        assert await in_thread(read_exactly, peer, 5) == b"again"
        assert written == [b"hello"]
        transport.self = transport  # a cycle for the collector


async def test_assigned_methods_are_used_by_streams(loop):
    server = await start_server("tcp", Echo)
    reader, writer = await asyncio.open_connection(*address_of(server))
    written = []
    original = writer.transport.write
    writer.transport.write = lambda data: (written.append(data), original(data))
    writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    assert written == [b"line\n"]
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_repr(connection, loop):
    async with connection() as (transport, protocol, _):
        assert repr(transport).startswith("<")
        assert "Transport" in repr(transport)
        assert f"fd={transport.get_extra_info('socket').fileno()}" in repr(transport)
        transport.close()
        assert "clos" in repr(transport)
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert "closed" in repr(transport)


@pytest.mark.parametrize("name", ["__init__", "get_extra_info", "write", "close", "abort"])
async def test_methods_can_be_bound_ahead(any_connection, loop, name):
    async with any_connection() as (transport, _, _):
        assert callable(getattr(transport, name))


var = contextvars.ContextVar("var", default="outside")


class ContextRecorder(Recorder):
    def __init__(self):
        super().__init__()
        self.contexts = {}

    def _note(self, event):
        self.contexts[event] = var.get()
        super()._note(event)


async def test_context_of_the_callbacks_of_a_client(loop, kind):
    """All of them see what was set when the connection was created."""
    server = await start_server(kind, Echo)
    var.set("at create_connection")
    transport, protocol = await connect(address_of(server), ContextRecorder)
    var.set("later")
    transport.write(b"x")
    await protocol.received(1)
    server.close()
    transport.close()
    await protocol.seen("connection_lost")
    assert protocol.contexts["connection_made"] == "at create_connection"
    assert protocol.contexts["data_received"] == "at create_connection"
    await server.wait_closed()


async def test_context_of_the_callbacks_of_a_server(loop, kind):
    protocols = []

    def make():
        protocols.append(ContextRecorder())
        return protocols[-1]

    var.set("at create_server")
    server = await start_server(kind, make)
    var.set("later")
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"x")
        while not protocols:
            await asyncio.sleep(0)
        await protocols[0].received(1)
    await protocols[0].seen("connection_lost")
    assert set(protocols[0].contexts.values()) == {"at create_server"}
    server.close()
    await server.wait_closed()


async def test_connections_of_a_server_do_not_share_changes_of_a_context(loop):
    seen = []

    class Setting(Recorder):
        def data_received(self, data):
            seen.append(var.get())
            var.set("changed")
            super().data_received(data)

    var.set("clean")
    server = await start_server("tcp", Setting)
    for i in range(3):
        with connect_to(address_of(server)) as peer:
            peer.sendall(b"x")
            while len(seen) <= i:
                await asyncio.sleep(0)
    assert seen == ["clean"] * 3
    server.close()
    await server.wait_closed()


async def test_changes_of_a_context_last_from_read_to_read(any_connection, loop):
    """data_received of one connection runs in one context."""
    seen = []

    class Counting(Recorder):
        def data_received(self, data):
            seen.append(var.get())
            var.set(data)
            super().data_received(data)

    async with any_connection(Counting) as (_, protocol, peer):
        for i, text in enumerate((b"a", b"b", b"c")):
            peer.sendall(text)
            await protocol.received(i + 1)
    assert seen[1:] == [b"a", b"b"]


@pytest.mark.parametrize("blocking", [True, False])
async def test_create_connection_with_a_socket(loop, kind, blocking):
    with listener(kind) as listening:
        sock = connect_to(listening.getsockname())
        sock.setblocking(blocking)
        peer, _ = listening.accept()
        with peer:
            create = loop.create_connection if kind == "tcp" else loop.create_unix_connection
            transport, protocol = await create(Recorder, sock=sock)
            assert transport.get_extra_info("socket").fileno() == sock.fileno()
            assert sock.gettimeout() == 0
            transport.write(b"hello")
            assert await in_thread(read_exactly, peer, 5) == b"hello"
            peer.sendall(b"back")
            assert await protocol.received(4) == b"back"
            transport.close()
            await protocol.seen("connection_lost")
            await asyncio.sleep(0)
            assert sock.fileno() == -1


@pytest.mark.parametrize("protocol_class", [Recorder, BufferedRecorder])
async def test_connect_accepted_socket(loop, kind, protocol_class):
    with listener(kind) as listening, connect_to(listening.getsockname()) as peer:
        sock, _ = listening.accept()
        transport, protocol = await loop.connect_accepted_socket(protocol_class, sock)
        peer.sendall(b"hello")
        assert await protocol.received(5) == b"hello"
        transport.write(b"back")
        transport.close()
        assert await in_thread(read_all, peer) == b"back"
        await protocol.seen("connection_lost")


@pytest.mark.parametrize("type_", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
async def test_sockets_that_are_no_streams_are_refused(loop, type_):
    left, right = socket.socketpair(socket.AF_UNIX, type_)
    with left, right:
        for call in (
            lambda: loop.create_connection(Recorder, sock=left),
            lambda: loop.create_unix_connection(Recorder, sock=left),
            lambda: loop.connect_accepted_socket(Recorder, left),
            lambda: loop.create_server(Recorder, sock=left),
            lambda: loop.create_unix_server(Recorder, sock=left),
        ):
            with pytest.raises(ValueError, match=r"[Ss]tream|SOCK_STREAM"):
                await call()


async def test_socket_that_is_used_already_is_refused(loop):
    """Two transports on one descriptor would take each other's data."""
    left, right = socket.socketpair()
    with right:
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(left, 1)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(left, int)
        transport.close()
        await protocol.seen("connection_lost")


async def test_socketpair_from_end_to_end(loop):
    left, right = socket.socketpair()
    first, first_protocol = await loop.create_connection(Recorder, sock=left)
    second, second_protocol = await loop.create_connection(Recorder, sock=right)
    first.write(b"ping")
    assert await second_protocol.received(4) == b"ping"
    second.write(b"pong")
    assert await first_protocol.received(4) == b"pong"
    first.close()
    await second_protocol.seen("connection_lost")
    await first_protocol.seen("connection_lost")


async def test_ipv6(loop):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        server = await loop.create_server(Echo, "::1", 0)
    except OSError as exc:
        pytest.skip(f"no IPv6 here: {exc}")
    port = address_of(server)[1]
    transport, protocol = await loop.create_connection(Recorder, "::1", port)
    transport.write(b"six")
    assert await protocol.received(3) == b"six"
    assert transport.get_extra_info("peername")[:2] == ("::1", port)
    assert len(transport.get_extra_info("peername")) == 4
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()
