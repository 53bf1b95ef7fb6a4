# SPDX-License-Identifier: MIT
"""What goes wrong at a datagram endpoint: errors of the socket, exceptions of the protocol."""

import asyncio
import contextlib
import errno
import os
import socket

import pytest
from loopkit import DatagramRecorder, datagram_endpoint, datagram_socket, receive_datagrams


class Oops(Exception):
    pass


def raising(method, exception=Oops):
    """A recorder whose `method` raises after noting the call."""

    def fail(self, *args):
        getattr(DatagramRecorder, method)(self, *args)
        raise exception

    return type("Raises", (DatagramRecorder,), {method: fail})


async def refused(loop, protocol_factory=DatagramRecorder):
    """An endpoint connected to a UDP port where nobody listens."""
    with datagram_socket("udp") as peer:
        name = peer.getsockname()
    return await loop.create_datagram_endpoint(protocol_factory, remote_addr=name)


async def block(transport):
    while transport.get_write_buffer_size() == 0:
        transport.sendto(b"x" * 64)


async def finish(transport, protocol):
    transport.close()
    await protocol.seen("connection_lost")
    await asyncio.sleep(0)


async def test_refused_datagram_is_heard_of_by_reading(loop):
    transport, protocol = await refused(loop)
    transport.sendto(b"x")
    await protocol.seen("error_received")
    (failure,) = protocol.failures
    assert type(failure) is ConnectionRefusedError
    assert str(failure) == os.strerror(errno.ECONNREFUSED) or failure.errno == errno.ECONNREFUSED
    assert not transport.is_closing()
    await finish(transport, protocol)
    assert protocol.exception is None


async def test_refused_datagram_is_heard_of_by_the_next_send(loop):
    transport, protocol = await refused(loop)
    transport.sendto(b"x")
    transport.sendto(b"y")
    assert [type(failure) for failure in protocol.failures] == [ConnectionRefusedError]
    await finish(transport, protocol)


async def test_error_of_an_unconnected_send(loop):
    async with datagram_endpoint("udp") as (transport, protocol, peer):
        transport.sendto(b"x", ("127.0.0.1", 0))
        assert [failure.errno for failure in protocol.failures] == [errno.EINVAL]
        transport.sendto(b"y", peer.getsockname())
        assert peer.recv(9) == b"y"


async def test_error_of_a_name_look_up(loop):
    async with datagram_endpoint("udp") as (transport, protocol, _):
        transport.sendto(b"x", ("name.invalid", 9))
        assert [type(failure) for failure in protocol.failures] == [socket.gaierror]
        assert not transport.is_closing()


async def test_error_received_that_raises_inside_sendto_reaches_the_caller(loop):
    async with datagram_endpoint("udp", raising("error_received")) as (transport, protocol, _):
        with pytest.raises(Oops):
            transport.sendto(b"x", ("127.0.0.1", 0))
        assert not transport.is_closing()


async def test_error_received_that_raises_while_reading_is_reported(loop, errors):
    transport, protocol = await refused(loop, raising("error_received"))
    transport.sendto(b"x")
    await protocol.seen("error_received")
    await asyncio.sleep(0)
    assert not transport.is_closing()
    await finish(transport, protocol)
    (context,) = errors
    errors.clear()
    assert context["message"].startswith("Exception in callback ")
    assert type(context["exception"]) is Oops


async def fill_and_lose_the_peer(loop, protocol_factory, count):
    with datagram_socket("unix") as peer:
        sock = datagram_socket("unix")
        sock.connect(peer.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(protocol_factory, sock=sock)
        await block(transport)
        for _ in range(count - 1):
            transport.sendto(b"x")
    return transport, protocol


@pytest.mark.parametrize("count", [1, 5])
async def test_errors_of_queued_datagrams(loop, count):
    """Each is heard of, the others go on, and the close that waits for them happens."""
    transport, protocol = await fill_and_lose_the_peer(loop, DatagramRecorder, count)
    transport.close()
    await protocol.seen("connection_lost")
    assert len(protocol.failures) == count
    assert isinstance(protocol.failures[0], ConnectionRefusedError)
    await asyncio.sleep(0)


async def test_error_received_that_raises_for_a_queued_datagram_is_reported(loop, errors):
    transport, protocol = await fill_and_lose_the_peer(loop, raising("error_received"), 3)
    await protocol.seen("error_received", 3)
    await finish(transport, protocol)
    assert [type(context["exception"]) for context in errors] == [Oops] * 3
    assert all(c["message"].startswith("Exception in callback ") for c in errors)
    errors.clear()


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_end_inside_error_received(loop, call):
    class Ends(DatagramRecorder):
        def error_received(self, exc):
            super().error_received(exc)
            getattr(self.transport, call)()

    transport, protocol = await refused(loop, Ends)
    transport.sendto(b"x")
    await protocol.seen("connection_lost")
    transport, protocol = await fill_and_lose_the_peer(loop, Ends, 3)
    await protocol.seen("connection_lost")
    assert len(protocol.failures) == (3 if call == "close" else 1)
    async with datagram_endpoint("udp", Ends) as (transport, protocol, _):
        transport.sendto(b"x", ("127.0.0.1", 0))
        assert transport.is_closing()
        await protocol.seen("connection_lost")


@pytest.mark.stock_fails("goes on watching the descriptor")
async def test_impossible_address_that_was_queued_is_fatal(loop, errors):
    with datagram_socket("unix") as peer:
        async with datagram_endpoint("unix") as (transport, protocol, _):
            while transport.get_write_buffer_size() == 0:
                transport.sendto(b"x", peer.getsockname())
            transport.sendto(b"x", ("not", "a path"))
            peer.settimeout(0)
            while "connection_lost" not in protocol.events:
                with contextlib.suppress(BlockingIOError):
                    peer.recv(9)
                await asyncio.sleep(0)
    assert type(protocol.exception) is TypeError
    assert errors.pop()["message"] == "Fatal write error on datagram transport"
    assert not errors


async def test_datagram_received_that_raises_is_reported_and_the_next_ones_come(loop, errors):
    async with datagram_endpoint("udp", raising("datagram_received")) as (transport, p, peer):
        for number in range(20):
            peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        await p.seen("datagram_received", 20)
        await asyncio.sleep(0)
        assert not transport.is_closing()
        assert p.data == [b"%d" % number for number in range(20)]
    assert len(errors) == 20
    assert errors[0]["message"].startswith("Exception in callback ")
    assert type(errors[0]["exception"]) is Oops
    errors.clear()


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
async def test_life_cycle_method_that_raises_is_reported(loop, errors, method):
    async with datagram_endpoint("udp", raising(method)) as (transport, protocol, peer):
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received")
    await asyncio.sleep(0)
    assert errors.pop()["message"].startswith("Exception in callback ")
    assert not errors


@pytest.mark.stock_fails(
    "what is sent counts for 8 bytes less than it did when queued", since=(3, 13), before=(3, 13, 9)
)
@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
async def test_flow_control_method_that_raises_is_reported(loop, errors, method):
    async with datagram_endpoint("unix", raising(method), connected=True) as (transport, p, peer):
        transport.set_write_buffer_limits(0)
        await block(transport)
        while method not in p.events:
            await receive_datagrams(peer, 1)
            await asyncio.sleep(0)
        assert not transport.is_closing()
    (context,) = errors
    errors.clear()
    assert context["message"] == f"protocol.{method}() failed"
    assert context["transport"] is transport


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "method", ["datagram_received", "error_received", "connection_made", "connection_lost"]
)
def test_exceptions_that_leave_the_loop(loop, exception, method):
    """The loop can go on afterwards, and no datagram is lost."""
    protocol = raising(method, exception)()

    async def make():
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        return transport

    with datagram_socket("udp") as peer:
        sock = datagram_socket("udp")
        name = sock.getsockname()
        if method == "connection_made":
            with pytest.raises(exception):
                loop.run_until_complete(make())
            transport = protocol.transport
        else:
            transport = loop.run_until_complete(make())
        if method == "datagram_received":
            for number in range(3):
                peer.sendto(b"%d" % number, name)
            for _ in range(3):
                with pytest.raises(exception):
                    loop.run_forever()
            assert protocol.data == [b"0", b"1", b"2"]
        if method == "error_received":
            with pytest.raises(exception):
                transport.sendto(b"x", ("127.0.0.1", 0))
        transport.close()
        with pytest.raises(exception) if method == "connection_lost" else contextlib.nullcontext():
            loop.run_until_complete(asyncio.sleep(0.001))
    assert protocol.events.count("connection_lost") == 1
    loop.run_until_complete(asyncio.sleep(0))
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)


async def test_descriptor_closed_behind_its_back(loop):
    async with datagram_endpoint("udp") as (transport, protocol, peer):
        fd = transport.get_extra_info("socket").fileno()
        os.close(fd)
        transport.sendto(b"x", peer.getsockname())
        assert [failure.errno for failure in protocol.failures] == [errno.EBADF]
        null = os.open(os.devnull, os.O_RDONLY)  # so that the transport has something to close
        if null != fd:
            os.dup2(null, fd)
            os.close(null)
        transport.sendto(b"x", peer.getsockname())
        assert protocol.failures[1].errno == errno.ENOTSOCK


async def test_endpoint_whose_number_another_one_got(loop):
    """A new endpoint is not disturbed by the one whose descriptor was closed under it."""
    async with datagram_endpoint("udp") as (transport, protocol, peer):
        fd = transport.get_extra_info("socket").fileno()
        with datagram_socket("udp") as spare:
            transport.pause_reading()
            os.dup2(spare.fileno(), fd)
            name = spare.getsockname()
        transport.resume_reading()
        peer.sendto(b"x", name)
        transport.sendto(b"y", peer.getsockname())
        assert peer.recvfrom(9) == (b"y", name)


async def test_cancelled_creation_closes_the_socket(loop):
    sock = datagram_socket("udp")
    task = asyncio.ensure_future(loop.create_datagram_endpoint(DatagramRecorder, sock=sock))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sock.fileno() == -1


async def test_factory_that_raises(loop):
    with datagram_socket("udp") as sock, pytest.raises(Oops):
        await loop.create_datagram_endpoint(raising_factory, sock=sock)


def raising_factory():
    raise Oops


@pytest.mark.stock_fails("makes a transport with the descriptor -1")
async def test_closed_socket_is_refused(loop):
    sock = datagram_socket("udp")
    sock.close()
    with pytest.raises((ValueError, OSError)):
        loop._make_datagram_transport(sock, DatagramRecorder())


@pytest.mark.stock_fails("makes a transport whose start fails")
def test_closed_loop(loop_factory):
    loop = loop_factory()
    loop.close()
    with datagram_socket("udp") as sock, pytest.raises(RuntimeError, match="closed"):
        loop._make_datagram_transport(sock, DatagramRecorder())
