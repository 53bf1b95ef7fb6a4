# SPDX-License-Identifier: MIT
"""How connections end: close, abort, resets, peers that vanish, and calls after the end."""

import asyncio
import contextlib
import gc
import logging
import socket
import struct
import weakref

import pytest
from loopkit import (
    Recorder,
    address_of,
    connect,
    connection,
    in_thread,
    read_all,
    read_exactly,
    send_reset,
    start_server,
)

MIB = 1 << 20


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_connection_lost_once_and_not_inside_the_call(connection, loop, call):
    async with connection() as (transport, protocol, peer):
        assert not transport.is_closing()
        getattr(transport, call)()
        assert transport.is_closing()
        assert "connection_lost" not in protocol.events
        getattr(transport, call)()
        transport.close()
        await protocol.seen("connection_lost")
        assert await in_thread(read_all, peer) == b""
        for _ in range(3):
            await asyncio.sleep(0)
    assert protocol.events == ["connection_made", "connection_lost"]
    assert protocol.exception is None


@pytest.mark.stock_fails("abort() after a delayed close: AttributeError", before=(3, 14, 8))
@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("queued", [0, 4 * MIB])
async def test_close_and_abort_after_the_end_do_nothing(connection, loop, call, queued):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * queued)
        transport.close()
        await in_thread(read_all, peer)
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        getattr(transport, call)()
        await asyncio.sleep(0)
    assert protocol.events.count("connection_lost") == 1


async def test_close_sends_what_is_queued(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        transport.write(b"end")
        transport.close()
        assert transport.is_closing()
        data = await in_thread(read_all, peer)
        await protocol.seen("connection_lost")
    assert len(data) == 8 * MIB + 3
    assert data.endswith(b"xend")
    assert protocol.exception is None


async def test_nothing_is_delivered_after_close(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * 4 * MIB)
        transport.close()
        peer.sendall(b"too late")
        with contextlib.suppress(ConnectionResetError):  # what nobody read makes the kernel reset
            await in_thread(read_all, peer)
        await protocol.seen("connection_lost")
    assert protocol.data == b""
    assert "eof_received" not in protocol.events


async def test_abort_drops_what_is_queued(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.seen("connection_lost")
        try:
            data = await in_thread(read_all, peer)
        except ConnectionResetError:
            data = b""
    assert len(data) < 8 * MIB
    assert protocol.exception is None


async def test_abort_during_a_delayed_close(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        transport.close()
        transport.abort()
        await protocol.seen("connection_lost")
    assert protocol.events.count("connection_lost") == 1
    assert protocol.exception is None


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_end_inside_connection_made(kind, loop, call):
    class End(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, call)()

    for role in ("server", "client"):
        async with connection(kind, role, End) as (_, protocol, peer):
            await protocol.seen("connection_lost")
            assert await in_thread(read_all, peer) == b""
        assert protocol.events == ["connection_made", "connection_lost"]


async def test_write_and_close_inside_connection_made(connection, loop):
    class Greeter(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hel")
            transport.write(b"lo")
            transport.close()

    async with connection(Greeter) as (_, protocol, peer):
        assert await in_thread(read_all, peer) == b"hello"
        await protocol.seen("connection_lost")


@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("buffered", [False, True])
async def test_end_inside_a_read_callback(connection, loop, call, buffered):
    from loopkit import BufferedRecorder

    class Plain(Recorder):
        def data_received(self, data):
            super().data_received(data)
            getattr(self.transport, call)()

    class Buffered(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            getattr(self.transport, call)()

    async with connection(Buffered if buffered else Plain) as (_, protocol, peer):
        await in_thread(peer.sendall, b"x" * 10)
        await protocol.seen("connection_lost")
    assert protocol.data == b"x" * 10
    assert protocol.events[2:] == ["connection_lost"]
    assert protocol.exception is None


async def test_end_inside_get_buffer(any_connection, loop):
    from loopkit import BufferedRecorder

    class End(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.transport.close()
            return super().get_buffer(sizehint)

    async with any_connection(End) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.seen("connection_lost")
    assert protocol.events.count("connection_lost") == 1


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_end_inside_eof_received(connection, loop, call):
    class End(Recorder):
        keep_open = True

        def eof_received(self):
            getattr(self.transport, call)()
            return super().eof_received()

    async with connection(End) as (_, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("connection_lost")
    assert protocol.events == ["connection_made", "eof_received", "connection_lost"]


async def test_calls_inside_connection_lost(connection, loop):
    """Everything may be called there; nothing happens."""

    class Busy(Recorder):
        def connection_lost(self, exc):
            transport = self.transport
            transport.close()
            transport.abort()
            transport.pause_reading()
            transport.resume_reading()
            transport.write(b"ignored")
            assert transport.is_closing()
            assert not transport.is_reading()
            super().connection_lost(exc)

    async with connection(Busy) as (transport, protocol, _):
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
    assert protocol.events.count("connection_lost") == 1


async def test_reset_by_the_peer_while_idle(role, loop):
    async with connection("tcp", role) as (transport, protocol, peer):
        send_reset(peer)
        await protocol.seen("connection_lost")
        assert transport.is_closing()
    assert isinstance(protocol.exception, ConnectionResetError)
    assert protocol.events == ["connection_made", "connection_lost"]


async def test_reset_by_the_peer_with_unread_data(role, loop):
    async with connection("tcp", role) as (_, protocol, peer):
        peer.sendall(b"x")
        await protocol.received(1)
        send_reset(peer)
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, ConnectionResetError)


async def test_reset_by_the_peer_while_paused(role, loop):
    """Found out at the latest when reading goes on."""
    async with connection("tcp", role) as (transport, protocol, peer):
        transport.pause_reading()
        send_reset(peer)
        await asyncio.sleep(0.005)
        transport.resume_reading()
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, ConnectionResetError)
    assert protocol.events.count("connection_lost") == 1


async def test_reset_while_paused_does_not_spin(loop):
    """EPOLLERR and EPOLLHUP can't be masked: a paused transport must not busy-wait on them."""
    import time

    async with connection("tcp", "server") as (transport, protocol, peer):
        transport.pause_reading()
        send_reset(peer)
        await asyncio.sleep(0.005)
        start = time.thread_time()
        await asyncio.sleep(0.1)
        assert time.thread_time() - start < 0.05
        transport.abort()
        await protocol.seen("connection_lost")


async def test_reset_by_the_peer_while_closing(role, loop):
    async with connection("tcp", role) as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        transport.close()
        await asyncio.sleep(0)
        send_reset(peer)
        await protocol.seen("connection_lost")
        assert transport.get_write_buffer_size() == 0
    assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))
    assert protocol.events.count("connection_lost") == 1


async def test_reset_by_the_peer_after_write_eof(role, loop):
    async with connection("tcp", role) as (transport, protocol, peer):
        transport.write_eof()
        assert await in_thread(read_all, peer) == b""
        send_reset(peer)
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, ConnectionResetError)


async def test_reset_by_the_peer_after_its_eof(role, loop):
    class Open(Recorder):
        keep_open = True

    async with connection("tcp", role, Open) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.seen("eof_received")
        send_reset(peer)
        await asyncio.sleep(0.001)
        for _ in range(5):
            if transport.is_closing():
                break
            transport.write(b"x")
            await asyncio.sleep(0.001)
        await protocol.seen("connection_lost")
    assert protocol.events.count("connection_lost") == 1
    assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))


async def test_peer_vanishes_while_data_is_queued(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.write(b"x" * 8 * MIB)
        assert await in_thread(read_exactly, peer, 1000) == b"x" * 1000
        peer.close()
        await protocol.seen("connection_lost")
        assert transport.get_write_buffer_size() == 0
    assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))
    assert protocol.events.count("connection_lost") == 1


async def test_peer_vanishes_while_reading_is_paused_and_data_queued(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.pause_reading()
        transport.write(b"x" * 8 * MIB)
        peer.close()
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))


async def test_peer_vanishes_then_write(connection, loop):
    class Open(Recorder):
        keep_open = True

    async with connection(Open) as (transport, protocol, peer):
        peer.close()
        await protocol.seen("eof_received")
        while not transport.is_closing():
            transport.write(b"x")
            await asyncio.sleep(0)
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, (ConnectionResetError, BrokenPipeError))


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_writes_after_the_end_warn_from_the_sixth_on(connection, loop, caplog, call):
    async with connection() as (transport, protocol, _):
        getattr(transport, call)()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.write(b"dropped")
            assert "socket.send() raised exception." not in caplog.text
            for _ in range(4):
                transport.write(b"dropped")
        messages = [r.getMessage() for r in caplog.records if r.name == "asyncio"]
        assert "socket.send() raised exception." in messages
        assert 3 <= messages.count("socket.send() raised exception.") <= 4
        await protocol.seen("connection_lost")
        transport.write(b"dropped")
        assert transport.get_write_buffer_size() == 0


async def test_write_after_close_with_nothing_queued_is_dropped(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.close()
        transport.write(b"dropped")
        assert await in_thread(read_all, peer) == b""
        await protocol.seen("connection_lost")


async def test_write_eof_after_close_does_nothing(connection, loop):
    async with connection() as (transport, protocol, peer):
        transport.close()
        transport.write_eof()
        await protocol.seen("connection_lost")
        transport.write_eof()


async def test_write_error_is_not_raised_by_write(role, loop):
    """The first write that fails ends the connection; write() itself never raises OSError."""

    class Open(Recorder):
        keep_open = True

    async with connection("tcp", role, Open) as (transport, protocol, peer):
        send_reset(peer)
        for _ in range(3):
            transport.write(b"x")
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, OSError)


async def test_peer_sees_a_graceful_end(role, loop):
    """close() with everything read sends FIN, not RST."""
    async with connection("tcp", role) as (transport, protocol, peer):
        transport.write(b"bye")
        transport.close()
        assert await in_thread(read_all, peer) == b"bye"
        await protocol.seen("connection_lost")


async def test_socket_shut_down_behind_the_back_of_the_transport(connection, loop):
    async with connection() as (transport, protocol, _):
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await protocol.seen("connection_lost")
    assert protocol.events == ["connection_made", "eof_received", "connection_lost"]


def test_unclosed_transport_warns(loop, raw_loop_factory):
    left, right = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        transport.pause_reading()

    with right:
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            loop.run_until_complete(main())
            loop.close()
            gc.collect()
        right.settimeout(5)
        assert right.recv(1) == b""


async def test_transport_and_protocol_are_released(connection, loop):
    """After the end nothing of the loop holds them."""
    refs = []

    async def use():
        async with connection() as (transport, protocol, peer):
            peer.sendall(b"x")
            await protocol.received(1)
            transport.write(b"x" * MIB)
            refs.extend([weakref.ref(transport), weakref.ref(protocol)])
            transport.abort()
            await protocol.seen("connection_lost")

    await use()
    await asyncio.sleep(0)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


async def test_open_close_cycles_keep_the_number_of_descriptors(loop, kind):
    from loopkit import open_fds

    server = await start_server(kind, Recorder)
    before = len(open_fds())
    for _ in range(100):
        transport, protocol = await connect(address_of(server), Recorder)
        transport.close()
        await protocol.seen("connection_lost")
    for _ in range(200):
        if len(open_fds()) <= before:
            break
        await asyncio.sleep(0.001)
    assert len(open_fds()) == before
    server.close()
    await server.wait_closed()


async def test_small_send_buffer(connection, loop):
    """Many partial sends; every byte arrives once."""
    data = bytes(range(256)) * 2000
    async with connection() as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        transport.write(data[:100_000])
        transport.writelines([data[i : i + 1000] for i in range(100_000, 300_000, 1000)])
        transport.write(data[300_000:])
        transport.close()
        assert await in_thread(read_all, peer) == data


async def test_linger_of_zero_set_by_the_user(role, loop):
    """SO_LINGER set through get_extra_info('socket') makes abort() reset the connection."""
    async with connection("tcp", role) as (transport, protocol, peer):
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
        await protocol.seen("connection_lost")
        with pytest.raises(ConnectionResetError):
            await in_thread(read_all, peer)
