# SPDX-License-Identifier: MIT
"""create_connection and create_unix_connection."""

import asyncio
import contextlib
import socket

import pytest
from loopkit import (
    Echo,
    Recorder,
    address_of,
    connect,
    listener,
    open_fds,
    start_server,
)


def free_port():
    """A port nobody listens on (bound and closed again)."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def resolve_to(loop, *addresses):
    """Make the loop resolve every host to these IPv4 addresses."""

    async def getaddrinfo(host, port, **_):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in addresses
        ]

    loop.getaddrinfo = getaddrinfo


@pytest.fixture
def server(loop):
    """The address of an echo server."""

    async def start():
        return await start_server("tcp", Echo)

    server = loop.run_until_complete(start())
    yield address_of(server)
    server.close()
    loop.run_until_complete(server.wait_closed())


@contextlib.asynccontextmanager
async def connected(*args, **kwargs):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, *args, **kwargs)
    try:
        yield transport, protocol
    finally:
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)


async def check_echo(transport, protocol):
    transport.write(b"hello")
    assert await protocol.received(5) == b"hello"


async def test_connect(loop, server):
    async with connected(*server) as (transport, protocol):
        assert protocol.events == ["connection_made"]
        await check_echo(transport, protocol)


async def test_connection_is_made_before_create_connection_returns(loop, kind):
    server = await start_server(kind, Echo)
    transport, protocol = await connect(address_of(server), Recorder)
    assert protocol.transport is transport
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_keywords(loop, server):
    host, port = server
    async with connected(
        host=host, port=str(port), family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
    ) as (transport, protocol):
        await check_echo(transport, protocol)


async def test_name_is_resolved(loop, server):
    async with connected("localhost", server[1], family=socket.AF_INET) as ends:
        await check_echo(*ends)


async def test_refused(loop):
    before = open_fds()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, "127.0.0.1", free_port())
    assert open_fds() == before


async def test_refused_unix(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, tmp_path / "missing")
    with listener("unix") as sock:
        name = sock.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, name.decode())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "host and port was not specified and no sock specified"),
        ({"host": "127.0.0.1", "port": 1, "sock": 1}, "can not be specified at the same time"),
        ({"host": "127.0.0.1", "port": 1, "server_hostname": "x"}, "only meaningful with ssl"),
        ({"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1}, "only meaningful with ssl"),
        ({"host": "127.0.0.1", "port": 1, "ssl_shutdown_timeout": 1}, "only meaningful with ssl"),
    ],
)
async def test_contradicting_arguments(loop, arguments, message):
    with pytest.raises(ValueError, match=message):
        await loop.create_connection(Recorder, **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "no path and sock were specified"),
        ({"path": "x", "sock": 1}, "at the same time"),
        ({"path": "x", "server_hostname": "x"}, "only meaningful with ssl"),
    ],
)
async def test_contradicting_unix_arguments(loop, arguments, message):
    with pytest.raises(ValueError, match=message):
        await loop.create_unix_connection(Recorder, **arguments)


async def test_unknown_argument(loop):
    with pytest.raises(TypeError, match="nonsense"):
        await loop.create_connection(Recorder, "127.0.0.1", 1, nonsense=1)


async def test_local_addr(loop, server):
    port = free_port()
    async with connected(*server, local_addr=("127.0.0.1", port)) as (transport, protocol):
        assert transport.get_extra_info("sockname") == ("127.0.0.1", port)
        await check_echo(transport, protocol)


async def test_local_addr_in_use(loop, server):
    with listener("tcp") as taken:
        before = open_fds()
        with pytest.raises(OSError, match="error while attempting to bind on address"):
            await loop.create_connection(Recorder, *server, local_addr=taken.getsockname())
        assert open_fds() == before


async def test_next_address_is_tried(loop, server):
    resolve_to(loop, ("127.0.0.1", free_port()), ("127.0.0.1", free_port()), server)
    before = open_fds()
    async with connected("any", 1) as ends:
        await check_echo(*ends)
        # This end and the accepted one are all that was opened and kept.
        assert len(open_fds()) == len(before) + 2


async def test_all_addresses_fail(loop):
    resolve_to(loop, ("127.0.0.1", free_port()), ("127.0.0.1", free_port()))
    before = open_fds()
    with pytest.raises(OSError) as info:
        await loop.create_connection(Recorder, "any", 1)
    assert not isinstance(info.value, ConnectionRefusedError) or "Connect call" in str(info.value)
    del info
    assert open_fds() == before


async def test_no_address(loop):
    resolve_to(loop)
    with pytest.raises(OSError, match="returned empty list"):
        await loop.create_connection(Recorder, "any", 1)


@pytest.mark.since((3, 12), "all_errors")
@pytest.mark.parametrize("delay", [None, 0.001])
async def test_all_errors(loop, delay):
    resolve_to(loop, ("127.0.0.1", free_port()), ("127.0.0.2", free_port()))
    with pytest.raises(ExceptionGroup, match="create_connection failed") as info:
        await loop.create_connection(
            Recorder, "any", 1, all_errors=True, happy_eyeballs_delay=delay
        )
    assert [type(exc) for exc in info.value.exceptions] == [ConnectionRefusedError] * 2


async def test_happy_eyeballs(loop, server):
    """An address that never answers doesn't keep the next one waiting."""
    with socket.socket() as full:
        # A listening socket whose backlog is full: connecting to it hangs.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling = []
        try:
            for _ in range(3):
                sock = socket.socket()
                filling.append(sock)
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            before = open_fds()
            resolve_to(loop, full.getsockname(), server)
            async with connected("any", 1, happy_eyeballs_delay=0.001) as (transport, protocol):
                assert transport.get_extra_info("peername") == server
                await check_echo(transport, protocol)
                assert len(open_fds()) == len(before) + 2
        finally:
            for sock in filling:
                sock.close()


async def test_interleave(loop, server):
    resolve_to(loop, ("127.0.0.1", free_port()), server)
    async with connected("any", 1, happy_eyeballs_delay=5, interleave=1) as ends:
        await check_echo(*ends)


async def test_cancelled_connect_leaves_no_descriptor(loop):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling = []
        try:
            for _ in range(3):
                sock = socket.socket()
                filling.append(sock)
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            before = open_fds()
            for happy in (None, 0.001):
                task = asyncio.ensure_future(
                    loop.create_connection(
                        Recorder, *full.getsockname(), happy_eyeballs_delay=happy
                    )
                )
                await asyncio.sleep(0.005)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert open_fds() == before
        finally:
            for sock in filling:
                sock.close()


@pytest.mark.parametrize("rounds", range(8))
async def test_cancelled_at_any_step_leaves_no_descriptor(loop, server, rounds):
    """The connect is cancelled after 0, 1, 2 ... rounds, once also when it has just succeeded."""
    before = open_fds()
    protocols = []

    def make():
        protocols.append(Recorder())
        return protocols[-1]

    task = asyncio.ensure_future(loop.create_connection(make, *server))
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    try:
        transport, protocol = await task
    except asyncio.CancelledError:
        pass
    else:
        transport.abort()
        await protocol.seen("connection_lost")
    for _ in range(500):
        if open_fds() == before:
            break
        await asyncio.sleep(0.001)
    assert open_fds() == before


async def test_many_connections_at_once(loop, server):
    async def one():
        async with connected(*server) as ends:
            await check_echo(*ends)

    await asyncio.gather(*(one() for _ in range(100)))
