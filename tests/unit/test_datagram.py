# SPDX-License-Identifier: MIT
"""Datagram endpoints: what comes, what goes, addresses, flow control, and the end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import re
import socket
import sys
import weakref

import pytest
from loopkit import DatagramRecorder, datagram_endpoint, datagram_socket, receive_datagrams

HEADER = 8 if sys.version_info >= (3, 13) else 0
KINDS = ["udp", "udp6", "unix"]
COUNTS_WRONGLY = pytest.mark.stock_fails(
    "what is sent counts for 8 bytes less than it did when queued", since=(3, 13), before=(3, 13, 9)
)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def endpoint(kind):
    return lambda *args, **kwargs: datagram_endpoint(kind, *args, **kwargs)


async def blocked(transport, protocol, data=b"q" * 64, address=None):
    """Send on a connected unix endpoint until the kernel refuses; how many it took."""
    count = 0
    while transport.get_write_buffer_size() == 0:
        transport.sendto(data, address)
        count += 1
    assert not protocol.failures
    return count - 1


# ---- what comes and goes ----


@pytest.mark.parametrize("connected", [False, True])
async def test_there_and_back(endpoint, loop, connected):
    async with endpoint(connected=connected) as (transport, protocol, peer):
        name = transport.get_extra_info("sockname")
        for data in (b"one", b"x" * 1472, b"y" * 60000):
            peer.sendto(data, name)
            await protocol.until(lambda data=data: protocol.data[-1:] == [data])
            transport.sendto(data, None if connected else protocol.received[-1][1])
            assert peer.recvfrom(1 << 17) == (data, name)
        assert protocol.received[0][1] == peer.getsockname()
    assert protocol.exception is None


async def test_address_is_what_recvfrom_gives(kind, endpoint, loop):
    async with endpoint() as (transport, protocol, peer), contextlib.AsyncExitStack() as stack:
        others = [stack.enter_context(datagram_socket(kind)) for _ in range(3)]
        for turn in range(2):
            for sock in (peer, *others, peer, peer):
                sock.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.seen("datagram_received", 6 * (turn + 1))
        names = [sock.getsockname() for sock in (peer, *others, peer, peer)]
        assert [address for _, address in protocol.received] == names * 2


async def test_answers_find_each_of_many_peers(kind, endpoint, loop):
    class Echo(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data.upper(), addr)

    async with endpoint(Echo) as (transport, protocol, _), contextlib.AsyncExitStack() as stack:
        peers = [stack.enter_context(datagram_socket(kind)) for _ in range(20)]
        for turn in range(3):
            for number, sock in enumerate(peers):
                sock.sendto(b"%d of %d" % (turn, number), transport.get_extra_info("sockname"))
                if number % 5 == 4:  # a unix socket takes ten
                    await protocol.seen("datagram_received", 20 * turn + number + 1)
            for number, sock in enumerate(peers):
                assert sock.recv(99) == b"%d OF %d" % (turn, number)


async def test_empty_datagrams_come(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        for data in (b"", b"x", b""):
            peer.sendto(data, transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received", 3)
        assert protocol.data == [b"", b"x", b""]


@pytest.mark.stock_fails("sendto(b'') sends nothing", before=(3, 13))
@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
async def test_empty_datagrams_go(endpoint, loop, data):
    async with endpoint() as (transport, protocol, peer):
        transport.sendto(data, peer.getsockname())
        transport.sendto(b"after", peer.getsockname())
        assert [peer.recv(10), peer.recv(10)] == [b"", b"after"]


@pytest.mark.parametrize("kind_of_data", [bytes, bytearray, memoryview])
async def test_bytes_like_objects(endpoint, loop, kind_of_data):
    async with endpoint() as (transport, protocol, peer):
        transport.sendto(kind_of_data(b"data"), peer.getsockname())
        transport.sendto(data=kind_of_data(b"named"), addr=peer.getsockname())
        transport.sendto(kind_of_data(b"half"), addr=peer.getsockname())
        assert [peer.recv(99) for _ in range(3)] == [b"data", b"named", b"half"]


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]])
async def test_other_data_is_a_type_error(endpoint, loop, data):
    async with endpoint() as (transport, protocol, peer):
        message = f"data argument must be a bytes-like object, not '{type(data).__name__}'"
        with pytest.raises(TypeError, match=re.escape(message)):
            transport.sendto(data, peer.getsockname())
        assert not transport.is_closing()


@pytest.mark.parametrize("args", [(), (b"x", None, None)])
@pytest.mark.parametrize("names", [{}, {"data": b"y"}, {"what": b""}, {"addr": None, "data": 1}])
async def test_wrong_arguments(loop, args, names):
    if not args and names.get("data") == b"y":
        pytest.skip("that is right")
    async with datagram_endpoint("udp") as (transport, _, _peer):
        with pytest.raises(TypeError):
            transport.sendto(*args, **names)


async def test_messages_before_the_endpoint_is_made_come_after_the_call(kind, loop):
    """Who made the endpoint runs before its first datagram is delivered."""
    sock = datagram_socket(kind)
    with datagram_socket(kind) as peer:
        peer.sendto(b"early", sock.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        assert protocol.events == ["connection_made"]
        await protocol.seen("datagram_received")
        assert protocol.data == [b"early"]
        transport.close()
        await protocol.seen("connection_lost")


def test_callbacks_that_wait_come_before_datagrams(loop):
    """A task that is about to start can prepare for a datagram that is there already."""
    with datagram_socket("udp") as peer:
        sock = datagram_socket("udp")
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        )
        loop.run_until_complete(asyncio.sleep(0))
        for _ in range(3):
            peer.sendto(b"x", sock.getsockname())
            loop.call_soon(protocol.events.append, "callback")
            loop.run_until_complete(protocol.until(lambda: protocol.events[-1] != "callback"))
        transport.close()
        loop.run_until_complete(protocol.seen("connection_lost"))
        loop.run_until_complete(asyncio.sleep(0))
    assert protocol.events[1:-1] == ["callback", "datagram_received"] * 3


async def test_a_flood_comes_in_order_and_lets_callbacks_run(loop):
    """No descriptor keeps the loop: at most 64 datagrams without a turn for the others."""
    turns = []

    class Flooded(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if not turns or turns[-1]:
                turns.append(0)
                loop.call_soon(turns.append, 1)

    async with datagram_endpoint("udp", Flooded) as (transport, protocol, peer):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sent = [b"%d" % number for number in range(250)]
        for data in sent:
            peer.sendto(data, transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received", len(sent))
        assert protocol.data == sent
        assert turns.count(0) >= 250 // 65


async def test_longer_datagrams_than_max_size_are_cut_off(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        assert transport.max_size == 256 * 1024
        transport.max_size = 4
        peer.sendto(b"longer", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received")
        transport.max_size = 1 << 20
        peer.sendto(b"whole again", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received", 2)
        assert protocol.data == [b"long", b"whole again"]


async def test_no_size_at_all(loop):
    async with datagram_endpoint("udp") as (transport, protocol, peer):
        transport.max_size = 0
        peer.sendto(b"longer", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received")
        assert protocol.data == [b""]


async def test_context_of_the_endpoint(endpoint, loop):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Looks(DatagramRecorder):
        def datagram_received(self, data, addr):
            seen.append(variable.get())
            super().datagram_received(data, addr)

    variable.set("endpoint")
    async with endpoint(Looks) as (transport, protocol, peer):
        variable.set("later")
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received")
    assert seen == ["endpoint"]


# ---- addresses ----


async def test_address_of_a_connected_endpoint_may_be_repeated_only(loop):
    with datagram_socket("udp") as peer, datagram_socket("udp") as other:
        name = peer.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, remote_addr=name
        )
        transport.sendto(b"none")
        transport.sendto(b"same", name)
        transport.sendto(b"equal", (name[0], name[1]))
        message = f"Invalid address: must be None or {name}"
        with pytest.raises(ValueError, match=re.escape(message)):
            transport.sendto(b"other", other.getsockname())
        assert [peer.recv(9) for _ in range(3)] == [b"none", b"same", b"equal"]
        assert transport.get_extra_info("peername") == name
        transport.close()
        await protocol.seen("connection_lost")


async def test_comparison_of_addresses_that_raises(loop):
    class Bad:
        def __eq__(self, other):
            raise ZeroDivisionError

        __hash__ = None

    with datagram_socket("udp") as peer:
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, remote_addr=peer.getsockname()
        )
        with pytest.raises(ZeroDivisionError):
            transport.sendto(b"x", Bad())
        transport.close()
        await protocol.seen("connection_lost")


async def test_socket_that_came_connected_ignores_addresses(endpoint, loop):
    async with endpoint(connected=True) as (transport, protocol, peer):
        transport.sendto(b"x", ("not", "an address", 5))
        assert peer.recv(9) == b"x"


async def test_addresses_in_all_forms_of_ipv6(loop):
    async with datagram_endpoint("udp6") as (transport, protocol, peer):
        port = peer.getsockname()[1]
        forms = [("::1", port), ("::1", port, 0), ("::1", port, 0, 0), ("0:0::0:1", port)]
        forms += [("::1", port, 0, 1)]
        for address in forms:
            transport.sendto(b"x", address)
            assert peer.recv(9) == b"x"
        assert not protocol.failures
        peer.settimeout(0)
        transport.sendto(b"x", ("::1", port, 5, 0))  # a flow label may need a permission
        with contextlib.nullcontext() if not protocol.failures else pytest.raises(BlockingIOError):
            assert peer.recv(9) == b"x"


async def test_names_and_unusual_objects_as_addresses(loop):
    class Text(str):
        __slots__ = ()

    class Number:
        def __init__(self, value):
            self.value = value

        def __index__(self):
            return self.value

    async with datagram_endpoint("udp") as (transport, protocol, peer):
        port = peer.getsockname()[1]
        for address in [
            ("localhost", port),
            (Text("127.0.0.1"), port),
            ("127.0.0.1", Number(port)),
            ("127.1", port),
            ("", port),
        ]:
            transport.sendto(b"x", address)
            assert peer.recv(9) == b"x"
    assert not protocol.failures


async def test_address_object_that_is_changed_between_sends(loop):
    """A list in the place of a tuple is not taken for the one that was sent to before."""
    with datagram_socket("unix") as one, datagram_socket("unix") as two:
        async with datagram_endpoint("unix") as (transport, protocol, _):
            address = bytearray(one.getsockname())
            transport.sendto(b"first", address)
            address[:] = two.getsockname()
            transport.sendto(b"second", address)
            assert (one.recv(9), two.recv(9)) == (b"first", b"second")


BAD_ADDRESSES = {
    "udp": [
        None,
        "text",
        ("127.0.0.1",),
        ("127.0.0.1", 1, 2),
        ("127.0.0.1", "1"),
        ("127.0.0.1", -1),
        ("127.0.0.1", 65536),
        ("127.0.0.1", 1 << 70),
        (5, 5),
        ("127.0.0.1\0", 9),
    ],
    "udp6": [("::1",), ("::1", 9, 1 << 20), ("::1", 9, -1)],
    "unix": [None, 5, ("a",)],
}


@pytest.mark.parametrize(
    "kind, address", [(kind, bad) for kind, all_ in BAD_ADDRESSES.items() for bad in all_]
)
async def test_impossible_addresses_are_fatal(loop, errors, kind, address):
    async with datagram_endpoint(kind) as (transport, protocol, _):
        transport.sendto(b"x", address)
        assert transport.is_closing()
        await protocol.seen("connection_lost")
    (context,) = errors
    errors.clear()
    assert context["message"] == "Fatal write error on datagram transport"
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    assert type(context["exception"]) in (TypeError, OverflowError, ValueError)
    assert protocol.exception is context["exception"]


@pytest.mark.parametrize(
    "address", [b"x" * 200, "x" * 200, "\0" + "x" * 200, "/no/such/socket", ""]
)
async def test_unix_addresses_that_cannot_be_reached(loop, address):
    async with datagram_endpoint("unix") as (transport, protocol, _):
        transport.sendto(b"x", address)
        assert len(protocol.failures) == 1
        assert isinstance(protocol.failures[0], OSError)
        assert not transport.is_closing()


async def test_unix_paths(loop, tmp_path):
    received = []
    for name in (f"{tmp_path}/text", f"{tmp_path}/bytes".encode(), f"{tmp_path}/" + "n" * 40):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(name)
            transport, protocol = await loop.create_datagram_endpoint(
                DatagramRecorder, f"{tmp_path}/own", family=socket.AF_UNIX
            )
            transport.sendto(b"x", name)
            received.append(peer.recvfrom(9))
            peer.sendto(b"back", f"{tmp_path}/own")
            await protocol.seen("datagram_received")
            assert protocol.received == [(b"back", os.fsdecode(name))]
            transport.close()
            await protocol.seen("connection_lost")
    assert received == [(b"x", f"{tmp_path}/own")] * 3


async def test_unix_peer_without_a_name(loop):
    async with datagram_endpoint("unix") as (transport, protocol, _):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            for _ in range(2):
                nameless.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received", 2)
        assert protocol.received == [(b"x", None)] * 2


@pytest.mark.stock_fails("TypeError: the address None is given to sendto()")
async def test_socket_pair(loop):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with right, datagram_socket("unix") as other:
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=left)
        transport.sendto(b"there")
        assert right.recv(99) == b"there"
        transport.sendto(b"elsewhere", other.getsockname())
        assert other.recv(99) == b"elsewhere"
        right.send(b"back")
        await protocol.seen("datagram_received")
        assert protocol.received == [(b"back", None)]
        transport.close()
        await protocol.seen("connection_lost")


async def test_broadcast(loop):
    with datagram_socket("udp") as peer:
        target = ("127.255.255.255", peer.getsockname()[1])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        forbidden, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, ("127.0.0.1", 0)
        )
        forbidden.sendto(b"x", target)
        assert [type(failure) for failure in protocol.failures] == [PermissionError]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.settimeout(10)
            listening.bind(("127.255.255.255", 0))
            allowed, _ = await loop.create_datagram_endpoint(
                DatagramRecorder, remote_addr=listening.getsockname(), allow_broadcast=True
            )
            allowed.sendto(b"to all")
            allowed.sendto(b"again", listening.getsockname())
            assert [listening.recv(9), listening.recv(9)] == [b"to all", b"again"]
        for transport in (forbidden, allowed):
            transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_reuse_port(loop):
    first, _ = await loop.create_datagram_endpoint(
        DatagramRecorder, ("127.0.0.1", 0), reuse_port=True
    )
    name = first.get_extra_info("sockname")
    second, _ = await loop.create_datagram_endpoint(DatagramRecorder, name, reuse_port=True)
    assert second.get_extra_info("sockname") == name
    for transport in (first, second):
        transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class OwnSocket(socket.socket):
    """A class of a proxy library: what it overrides has to be called."""

    wants_to_block = 0

    def recvfrom(self, size, *flags):
        if self.wants_to_block:
            raise BlockingIOError
        data, address = super().recvfrom(size, *flags)
        return data[::-1], ("via", address)

    def sendto(self, data, address):
        if self.wants_to_block:
            raise InterruptedError
        return super().sendto(data.replace(b"a", b"A"), address)


async def test_derived_socket_classes_are_asked(loop):
    sock = OwnSocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    with datagram_socket("udp") as peer:
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        name = transport.get_extra_info("sockname")
        peer.sendto(b"abc", name)
        await protocol.seen("datagram_received")
        assert protocol.received == [(b"cba", ("via", peer.getsockname()))]
        transport.sendto(b"banana", peer.getsockname())
        assert peer.recvfrom(99) == (b"bAnAnA", name)
        assert transport.get_extra_info("peername") is None

        sock.wants_to_block = 1
        transport.sendto(bytearray(b"later"), peer.getsockname())
        assert transport.get_write_buffer_size() == 5 + HEADER
        peer.sendto(b"x", name)
        for _ in range(3):
            await asyncio.sleep(0)
        sock.wants_to_block = 0
        await protocol.seen("datagram_received", 2)
        transport.close()
        await protocol.seen("connection_lost")
        assert peer.recv(99) == b"lAter"


@pytest.mark.parametrize(
    "answer, kind_of_error", [(None, TypeError), (b"", (ValueError, IndexError))]
)
async def test_derived_socket_class_that_gives_no_pair(loop, errors, answer, kind_of_error):
    class Odd(socket.socket):
        def recvfrom(self, size, *flags):
            super().recvfrom(size, *flags)
            return answer

    sock = Odd(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    with datagram_socket("udp") as peer:
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        peer.sendto(b"abc", transport.get_extra_info("sockname"))
        await protocol.seen("connection_lost")
    assert isinstance(protocol.exception, kind_of_error)
    assert errors.pop()["message"] == "Fatal read error on datagram transport"
    assert not errors


async def test_families_hoop_does_not_know(loop):
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
        sock.bind((0, 0))
    except OSError:
        pytest.skip("no netlink here")
    transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
    assert transport.get_extra_info("sockname") == sock.getsockname()
    request = (20).to_bytes(4, sys.byteorder) + bytes([18, 0, 1, 3]) + bytes(12)
    transport.sendto(request, (0, 0))
    await protocol.seen("datagram_received")
    assert protocol.received[0][1] == (0, 0)
    transport.close()
    await protocol.seen("connection_lost")


# ---- flow control ----


async def test_what_the_kernel_refuses_waits_and_goes_in_order(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        taken = await blocked(transport, protocol)
        more = [b"%d" % number for number in range(100)]
        for data in more:
            transport.sendto(data)
        received = await receive_datagrams(peer, taken + 1 + len(more))
        assert received == [b"q" * 64] * (taken + 1) + more
        await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0 or sys.version_info[:3] == (3, 13, 0)


async def test_queued_datagrams_keep_their_addresses(loop):
    with datagram_socket("unix") as one, datagram_socket("unix") as two:
        async with datagram_endpoint("unix") as (transport, protocol, _):
            taken = await blocked(transport, protocol, b"1", one.getsockname())
            transport.sendto(b"2", two.getsockname())
            transport.sendto(b"3", one.getsockname())
            assert await receive_datagrams(one, taken + 2) == [b"1"] * (taken + 1) + [b"3"]
            assert two.recv(9) == b"2"


async def test_queued_data_is_a_copy(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        taken = await blocked(transport, protocol)
        first, second = bytearray(b"first"), bytearray(b"second")
        transport.sendto(first)
        transport.sendto(memoryview(second)[::1])
        first[:], second[:] = b"XXXXX", b"YYYYYY"
        received = await receive_datagrams(peer, taken + 3)
        assert received[-2:] == [b"first", b"second"]


@COUNTS_WRONGLY
async def test_size_of_what_is_queued(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        taken = await blocked(transport, protocol, b"x")
        assert transport.get_write_buffer_size() == 1 + HEADER
        transport.sendto(b"12345")
        assert transport.get_write_buffer_size() == 6 + 2 * HEADER
        assert f"bufsize={6 + 2 * HEADER}" in repr(transport)
        await receive_datagrams(peer, taken + 2)
        assert transport.get_write_buffer_size() == 0


@COUNTS_WRONGLY
async def test_protocol_is_paused_and_resumed(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=4000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        taken = await blocked(transport, protocol, b"x" * 900)
        for _ in range(5):
            transport.sendto(b"x" * 900)
        assert protocol.events.count("pause_writing") == 1
        await receive_datagrams(peer, taken + 6)
        await protocol.seen("resume_writing")
        assert protocol.events.count("pause_writing") == 1
        assert protocol.events.count("resume_writing") == 1


async def test_lower_limits_pause_at_once(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        await blocked(transport, protocol, b"x" * 100)
        transport.set_write_buffer_limits(0)
        assert protocol.events[-1] == "pause_writing"
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)


@COUNTS_WRONGLY
async def test_sending_inside_resume_writing(loop):
    class Sends(DatagramRecorder):
        def resume_writing(self):
            super().resume_writing()
            self.transport.sendto(b"resumed")

    async with datagram_endpoint("unix", Sends, connected=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(0)
        taken = await blocked(transport, protocol)
        received = []
        while b"resumed" not in received:
            received += await receive_datagrams(peer, 1)
        assert len(received) >= taken + 2


# ---- pausing ----


async def test_paused_reading(endpoint, loop):
    class Pauses(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    async with endpoint(Pauses) as (transport, protocol, peer):
        for number in range(9):
            peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        for number in range(9):
            await protocol.seen("datagram_received", number + 1)
            assert not transport.is_reading()
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(protocol.received) == number + 1
            transport.resume_reading()
            assert transport.is_reading()
        assert protocol.data == [b"%d" % number for number in range(9)]


# ---- the end ----


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_connection_lost_once_and_not_inside_the_call(endpoint, loop, call):
    async with endpoint() as (transport, protocol, peer):
        getattr(transport, call)()
        assert transport.is_closing()
        assert "connection_lost" not in protocol.events
        getattr(transport, call)()
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
    assert protocol.events == ["connection_made", "connection_lost"]
    assert protocol.exception is None


@pytest.mark.parametrize("count", [1, 50])
async def test_close_sends_what_is_queued(loop, count):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        taken = await blocked(transport, protocol)
        for _ in range(count - 1):
            transport.sendto(b"q" * 64)
        transport.close()
        transport.sendto(b"the last")
        assert "connection_lost" not in protocol.events
        received = await receive_datagrams(peer, taken + count + 1)
        assert received == [b"q" * 64] * (taken + count) + [b"the last"]
        await protocol.seen("connection_lost")


@pytest.mark.stock_fails("sendto(b'') sends nothing", before=(3, 13))
async def test_close_sends_an_empty_datagram_that_is_queued(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        for _ in range(30):
            transport.sendto(b"")
        transport.close()
        await asyncio.sleep(0)
        assert "connection_lost" not in protocol.events
        assert await receive_datagrams(peer, 30) == [b""] * 30
        await protocol.seen("connection_lost")


async def test_abort_drops_what_is_queued(loop):
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        taken = await blocked(transport, protocol)
        transport.sendto(b"unsent")
        transport.abort()
        await protocol.seen("connection_lost")
        assert [peer.recv(99) for _ in range(taken)] == [b"q" * 64] * taken
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(99)


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_end_inside_connection_made(endpoint, loop, call):
    class Ends(DatagramRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            getattr(transport, call)()

    async with endpoint(Ends) as (_, protocol, _peer):
        await protocol.seen("connection_lost")
    assert protocol.events == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("call", ["close", "abort"])
async def test_end_inside_datagram_received(endpoint, loop, call):
    class Ends(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"end":
                getattr(self.transport, call)()

    async with endpoint(Ends) as (transport, protocol, peer):
        for data in [b"x"] * 5 + [b"end"] + [b"too late"] * 3:
            peer.sendto(data, transport.get_extra_info("sockname"))
        await protocol.seen("connection_lost")
    assert protocol.data == [b"x"] * 5 + [b"end"]


@pytest.mark.stock_fails("an end inside resume_writing() calls connection_lost() twice")
@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
async def test_end_inside_flow_control(loop, call, method):
    def end(self):
        DatagramRecorder._note(self, method)
        getattr(self.transport, call)()

    ends = type("Ends", (DatagramRecorder,), {method: end})
    async with datagram_endpoint("unix", ends, connected=True) as (transport, protocol, peer):
        transport.set_write_buffer_limits(0)
        if method == "resume_writing":
            await blocked(transport, protocol)
        if method == "pause_writing":
            while not transport.is_closing():
                transport.sendto(b"x")
        peer.settimeout(0)
        while "connection_lost" not in protocol.events:
            with contextlib.suppress(BlockingIOError):
                peer.recv(99)
            await asyncio.sleep(0)
        await protocol.seen("connection_lost")
    assert protocol.events.count("connection_lost") == 1


async def test_calls_inside_connection_lost(endpoint, loop):
    class Calls(DatagramRecorder):
        def connection_lost(self, exc):
            self.transport.close()
            self.transport.abort()
            super().connection_lost(exc)

    async with endpoint(Calls) as (transport, protocol, _):
        transport.close()
        await protocol.seen("connection_lost")
    assert protocol.events.count("connection_lost") == 1


async def test_connected_transport_warns_of_sends_after_the_end(loop, caplog):
    with datagram_socket("udp") as peer:
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, remote_addr=peer.getsockname()
        )
        transport.close()
        for _ in range(3):
            transport.sendto(b"x")
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        with caplog.at_level(logging.WARNING, "asyncio"):
            transport.sendto(b"x")
            assert not caplog.records
            transport.sendto(b"x")
            transport.sendto(b"x")
        assert [r.getMessage() for r in caplog.records] == ["socket.send() raised exception."] * 2
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(9)


async def test_send_between_close_and_connection_lost(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        transport.close()
        transport.sendto(b"goodbye", peer.getsockname())
        assert peer.recv(99) == b"goodbye"
        await protocol.seen("connection_lost")


@pytest.mark.stock_fails("AttributeError: 'NoneType' object has no attribute 'sendto'")
async def test_send_after_the_end(endpoint, loop, caplog):
    async with endpoint() as (transport, protocol, peer):
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        for _ in range(6):
            transport.sendto(b"x", peer.getsockname())
        assert [r.getMessage() for r in caplog.records] == ["socket.send() raised exception."] * 2


async def test_refused_send_between_abort_and_connection_lost(loop):
    """Nobody waits for the descriptor any more: what the kernel refuses is lost."""
    async with datagram_endpoint("unix", connected=True) as (transport, protocol, peer):
        await blocked(transport, protocol)
        transport.abort()
        transport.sendto(b"x")
        await protocol.seen("connection_lost")


# ---- what a transport knows and shows ----


async def test_extra_info(endpoint, loop):
    async with endpoint(connected=True) as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        assert sock.type == socket.SOCK_DGRAM
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("nothing", 5) == 5
        assert transport._address is None
        name, peername = sock.getsockname(), peer.getsockname()
    assert transport.get_extra_info("sockname") == name
    assert transport.get_extra_info("peername") == peername


@pytest.mark.parametrize("make", [socket.socket, OwnSocket])
async def test_extra_info_given_at_the_making(loop, make):
    sock = make(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    extra = {"peername": None, "more": 5}
    transport = loop._make_datagram_transport(sock, DatagramRecorder(), extra=extra)
    assert transport.get_extra_info("more") == 5
    assert transport.get_extra_info("peername") is None
    assert transport.get_extra_info("sockname") == sock.getsockname()
    transport.close()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_protocol_can_be_replaced(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.DatagramTransport) or sys.version_info < (3, 12)
        assert transport.get_protocol() is protocol
        other = DatagramRecorder()
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await other.seen("datagram_received")
        transport.set_protocol(protocol)
    assert protocol.events == ["connection_made", "connection_lost"]


async def test_repr(endpoint, loop):
    async with endpoint() as (transport, protocol, _):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fd = transport.get_extra_info("socket").fileno()
        text = repr(transport)
        assert f"DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>" in text
        transport.close()
        assert f"closing fd={fd} read=idle" in repr(transport)
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert "closed" in repr(transport)


@pytest.mark.stock_fails("looks for no other transport", before=(3, 12))
async def test_sock_that_is_used_already_is_refused(loop):
    async with datagram_endpoint("udp") as (transport, protocol, _):
        sock = transport.get_extra_info("socket")
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock, int)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop._make_datagram_transport(sock, protocol)


async def test_attributes_can_be_set(loop):
    async with datagram_endpoint("udp") as (transport, _, peer):
        sent = []
        transport.sendto = lambda data, addr=None: sent.append(data)
        transport.sendto(b"x")
        assert sent == [b"x"]
        assert weakref.ref(transport)() is transport


async def test_unclosed_transport_warns(loop):
    sock = datagram_socket("udp")
    transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    transport.pause_reading()
    del protocol.transport, protocol, sock
    with pytest.warns(ResourceWarning, match="unclosed transport <.*DatagramTransport fd="):
        del transport
        gc.collect()


async def test_closed_transport_and_its_protocol_are_collected(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.seen("datagram_received")
    seen = weakref.ref(transport), weakref.ref(protocol)
    del transport, protocol
    gc.collect()
    await asyncio.sleep(0)
    assert [reference() for reference in seen] == [None, None]


def test_loop_closed_with_queued_datagrams(loop_factory, unraisable):
    """The transport lives on without a loop; nothing is sent, nothing crashes, it warns."""
    loop = loop_factory()

    async def fill():
        peer, sock = datagram_socket("unix"), datagram_socket("unix")
        sock.connect(peer.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        await blocked(transport, protocol)
        transport.sendto(b"more", ("an", "address"))
        return transport, peer

    transport, peer = loop.run_until_complete(fill())
    with peer:
        loop.close()
        transport.sendto(b"behind the others")
        with contextlib.suppress(RuntimeError):  # asyncio has nobody to schedule connection_lost
            transport.abort()
        with contextlib.suppress(ResourceWarning):
            del transport
        gc.collect()
    unraisable.clear()


async def test_debug_mode(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 1e-9
    with caplog.at_level(logging.DEBUG, "asyncio"):
        async with datagram_endpoint("udp") as (transport, protocol, peer):
            transport.pause_reading()
            transport.resume_reading()
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.seen("datagram_received")
    loop.set_debug(False)
    text = caplog.text
    assert "Datagram endpoint remote_addr=None created" in text
    assert "Executing <" in text
    assert "pauses reading" in text
    assert "resumes reading" in text


async def test_too_large_a_datagram(endpoint, loop):
    async with endpoint() as (transport, protocol, peer):
        transport.sendto(bytes(8 << 20), peer.getsockname())
        assert [failure.errno for failure in protocol.failures] == [errno.EMSGSIZE]
        transport.sendto(b"small", peer.getsockname())
        assert peer.recv(99) == b"small"
