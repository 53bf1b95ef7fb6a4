# SPDX-License-Identifier: MIT
"""Stream transports: what their methods accept, and the calls a protocol gets."""

import array
import asyncio
import collections
import contextvars
import mmap
import socket

from loopkit import read_all, read_exactly
from probekit import Buffered, Stream, probe, table

BIG = b"b" * 8_000_000
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def on_transport(method, *args, **kwargs):
    """A call of a transport's method, with what the peer gets afterwards."""

    async def call(p):
        transport, protocol, peer = await p.connected()
        given = [a(p) if callable(a) else a for a in args]
        result = p.call(getattr(transport, method), *given, **kwargs)
        transport.close()
        await protocol.seen("connection_lost")
        p.note("sent", read_all(peer))
        return result

    return call


VALUES = {
    "bytes": b"x",
    "empty": b"",
    "bytearray": bytearray(b"x"),
    "view": memoryview(b"xyz")[1:],
    "view-of-int": memoryview(array.array("i", [1, 2])),
    "view-strided": memoryview(b"abcdef")[::2],
    "array": array.array("b", [1, 2]),
    "text": "x",
    "none": None,
    "int": 5,
    "list": [1, 2],
    "tuple": (b"x",),
    "bytes-class": type("Bytes", (bytes,), {})(b"x"),
    "bytearray-class": type("Bytearray", (bytearray,), {})(b"x"),
}
table("write", {k: on_transport("write", v) for k, v in VALUES.items()})
# Python 3.12 to 3.13: writelines([b""]) keeps the transport from closing; 3.14 skips None.
LINES = {k: v for k, v in VALUES.items() if k not in ("empty", "none")}
# Python 3.11 joins the lines first, and complains in other words.
table(
    "writelines_of_one",
    {k: on_transport("writelines", [v]) for k, v in LINES.items()},
    since=(3, 12),
)
table(
    "writelines",
    {
        "empty": on_transport("writelines", []),
        "several": on_transport("writelines", [b"a", bytearray(b"b"), memoryview(b"c")]),
        "generator": on_transport("writelines", lambda p: (b"%d" % i for i in range(3))),
        "deque": on_transport("writelines", collections.deque([b"a", b"b"])),
        "bytes": on_transport("writelines", b"abc"),
        "text": on_transport("writelines", "abc"),
        "none": on_transport("writelines", None),
        "bad-second": on_transport("writelines", [b"a", "b"]),
        "no-argument": on_transport("writelines"),
    },
    since=(3, 12),
)


@probe
async def write_mmap(p):
    transport, protocol, _ = await p.connected()
    with mmap.mmap(-1, 10) as area:
        p.call(transport.write, area)


table(
    "limits",
    {
        "none": on_transport("set_write_buffer_limits"),
        "zero": on_transport("set_write_buffer_limits", 0),
        "high": on_transport("set_write_buffer_limits", high=100),
        "low": on_transport("set_write_buffer_limits", low=100),
        "both": on_transport("set_write_buffer_limits", 100, 50),
        "swapped": on_transport("set_write_buffer_limits", 50, 100),
        "negative-high": on_transport("set_write_buffer_limits", -1),
        "negative-low": on_transport("set_write_buffer_limits", low=-1),
        "text": on_transport("set_write_buffer_limits", "x"),
        "three": on_transport("set_write_buffer_limits", 1, 2, 3),
        "unknown": on_transport("set_write_buffer_limits", nonsense=1),
    },
)


@probe
async def limits_are_told(p):
    transport, _, _ = await p.connected()
    for given in ({}, {"high": 0}, {"high": 101}, {"low": 7}, {"high": 9, "low": 9}):
        transport.set_write_buffer_limits(**given)
        p.note(transport.get_write_buffer_limits())


@probe
async def limits_of_fractions(p):
    transport, _, _ = await p.connected()
    p.call(transport.set_write_buffer_limits, 10.5)
    p.note(transport.get_write_buffer_limits())
    p.call(transport.set_write_buffer_limits, 10.5, 0.5)
    p.note(transport.get_write_buffer_limits())


@probe
async def extra_info(p):
    for role in ("server", "client"):
        transport, _, peer = await p.connected(role=role)
        for name in ("socket", "sockname", "peername", "sslcontext", "nonsense", "compression"):
            p.note(name, transport.get_extra_info(name))
        p.note(transport.get_extra_info("sockname") == peer.getpeername())
        p.note(transport.get_extra_info("peername") == peer.getsockname())
        p.call(transport.get_extra_info, "nonsense", 5)
        p.call(transport.get_extra_info, "nonsense", default=5)
        p.call(transport.get_extra_info)
        p.call(transport.get_extra_info, 5)
        p.call(transport.get_extra_info, None, 6)
        p.call(transport.get_extra_info, [])


@probe
async def extra_info_after_the_end(p):
    for role in ("server", "client"):
        transport, protocol, peer = await p.connected(role=role)
        transport.close()
        await protocol.seen("connection_lost")
        await p.settle()
        for name in ("sockname", "peername"):
            p.note(name, transport.get_extra_info(name) is not None)
        sock = transport.get_extra_info("socket")
        p.note(sock.fileno(), sock.family, sock.type)
        p.call(sock.getsockname)


@probe
async def transport_socket_methods(p):
    transport, _, _ = await p.connected()
    sock = transport.get_extra_info("socket")
    p.note(sock.family, sock.type, sock.proto, sock.gettimeout())
    p.call(sock.setblocking, True)
    p.call(sock.settimeout, 1)
    p.call(sock.setblocking, False)
    p.call(sock.settimeout, 0)
    p.note(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
    for name in ("send", "recv", "close", "detach", "accept"):
        p.note(name, hasattr(sock, name))
    dup = p.own(sock.dup())
    p.note(dup.getpeername() == sock.getpeername())


@probe
async def methods_after_close(p):
    transport, protocol, peer = await p.connected()
    transport.close()
    for _ in range(2):
        p.note(transport.is_closing(), transport.is_reading(), transport.can_write_eof())
        p.call(transport.write, b"x")
        p.call(transport.write, "x")
        p.call(transport.write_eof)
        p.call(transport.pause_reading)
        p.call(transport.resume_reading)
        p.call(transport.get_write_buffer_size)
        p.call(transport.get_write_buffer_limits)
        p.call(transport.set_write_buffer_limits, 10)
        p.call(transport.get_protocol)
        p.call(transport.get_extra_info, "peername")
        p.call(transport.close)
        p.call(transport.abort)
        await protocol.seen("connection_lost")
        await p.settle()


@probe
async def set_protocol_after_the_end(p):
    transport, protocol, peer = await p.connected()
    transport.close()
    await protocol.seen("connection_lost")
    await p.settle()
    other = p.make("other.")
    p.call(transport.set_protocol, other)
    p.note(transport.get_protocol() is other)


@probe
async def set_protocol_to_what_is_none(p):
    transport, _, peer = await p.connected()
    p.call(transport.set_protocol, 5)
    p.note(transport.get_protocol() == 5)
    peer.sendall(b"x")
    await p.settle()


@probe
async def set_protocol_before_close(p):
    transport, _, peer = await p.connected()
    transport.set_protocol(other := p.make("other."))
    transport.close()
    await other.seen("connection_lost")


@probe
async def write_eof_and_then(p):
    transport, protocol, peer = await p.connected()
    transport.write(b"last")
    p.call(transport.write_eof)
    p.call(transport.write_eof)
    p.call(transport.write, b"x")
    p.call(transport.write, b"")
    p.call(transport.write, 5)
    p.note(read_all(peer))
    peer.sendall(b"answer")
    await protocol.received(6)
    p.note(transport.is_closing(), transport.is_reading())


@probe(since=(3, 12))
async def writelines_after_write_eof(p):
    transport, _, _ = await p.connected()
    transport.write_eof()
    p.call(transport.writelines, [])
    p.call(transport.writelines, [b"x"])


@probe
async def write_eof_then_abort(p):
    transport, protocol, peer = await p.connected()
    transport.write_eof()
    transport.abort()
    await protocol.seen("connection_lost")
    p.call(transport.write, b"x")


@probe
async def write_eof_with_data_queued(p):
    transport, protocol, peer = await p.connected()
    transport.write(BIG)
    transport.write_eof()
    p.call(transport.write, b"x")
    p.note(transport.get_write_buffer_size() > 0)
    p.note(len(await asyncio.to_thread(read_all, peer)))
    p.note(transport.is_closing())


@probe
async def peers_eof_refused(p):
    transport, protocol, peer = await p.connected()
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("connection_lost")
    p.note(read_all(peer))


@probe
async def peers_eof_kept(p):
    transport, protocol, peer = await p.connected(eof_received=lambda self: True)
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("eof_received")
    await p.settle()
    p.note(transport.is_closing(), transport.is_reading())
    p.call(transport.pause_reading)
    p.note(transport.is_reading())
    p.call(transport.resume_reading)
    p.note(transport.is_reading())
    transport.write(b"answer")
    await p.settle()
    p.note(peer.recv(10))
    transport.close()
    await protocol.seen("connection_lost")


@probe
async def peers_eof_kept_then_write_eof(p):
    transport, protocol, peer = await p.connected(eof_received=lambda self: True)
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("eof_received")
    transport.write(b"answer")
    transport.write_eof()
    p.note(read_all(peer))
    await p.settle()
    p.note(transport.is_closing(), protocol.seen_calls)


@probe
async def eof_received_closes(p):
    for name in ("close", "abort"):
        for answer in (True, False):

            def end(self, name=name, answer=answer):
                getattr(self.transport, name)()
                return answer

            transport, protocol, peer = await p.connected(eof_received=end)
            peer.shutdown(socket.SHUT_WR)
            await protocol.seen("connection_lost")


@probe
async def eof_while_paused(p):
    transport, protocol, peer = await p.connected()
    transport.pause_reading()
    peer.sendall(b"data")
    peer.shutdown(socket.SHUT_WR)
    await p.settle()
    p.note("resume")
    transport.resume_reading()
    await protocol.seen("connection_lost")


@probe
async def pause_in_connection_made(p):
    def pause(self):
        self.transport.pause_reading()

    transport, protocol, peer = await p.connected(connection_made=pause)
    peer.sendall(b"data")
    await p.settle()
    p.note(transport.is_reading())
    transport.resume_reading()
    await protocol.received(4)


@probe
async def pause_twice_and_resume_twice(p):
    transport, protocol, peer = await p.connected()
    for call in (transport.pause_reading, transport.pause_reading, transport.resume_reading,
                 transport.resume_reading):  # fmt: skip
        p.call(call)
        p.note(transport.is_reading())


@probe
async def writes_before_connection_is_made(p):
    def write(self):
        self.transport.write(b"hello ")
        self.transport.write(b"there")
        self.transport.write_eof()

    transport, protocol, peer = await p.connected(connection_made=write)
    p.note(read_all(peer))


def ending(role):
    """close() or abort() inside each callback."""

    async def run(p):
        for method in ("connection_made", "data_received", "eof_received", "connection_lost"):
            for name in ("close", "abort"):

                def end(self, *args, name=name):
                    getattr(self.transport, name)()

                p.note("in", method, name)
                transport, protocol, peer = await p.connected(role=role, **{method: end})
                try:
                    peer.sendall(b"data")
                    peer.shutdown(socket.SHUT_WR)
                except OSError as exc:
                    p.note("peer", type(exc).__name__)
                await protocol.seen("connection_lost")

    return run


table("ending_inside", {"server": ending("server"), "client": ending("client")})


def raising(role, kind=Stream):
    """An exception inside each callback."""

    async def run(p):
        methods = ["connection_made", "eof_received", "connection_lost"]
        methods += ["get_buffer", "buffer_updated"] if kind is Buffered else ["data_received"]
        for method in methods:

            def fail(self, *args, method=method):
                raise ValueError(method)

            p.note("in", method)
            transport, protocol, peer = await p.connected(role=role, kind=kind, **{method: fail})
            peer.sendall(b"data")
            peer.shutdown(socket.SHUT_WR)
            await protocol.seen("connection_lost")
            await p.settle()

    return run


table("raising_inside", {"server": raising("server"), "client": raising("client")})
table("raising_inside_buffered", {"server": raising("server", Buffered)})


@probe
async def raising_os_error_in_data_received(p):
    def fail(self, data):
        raise ConnectionResetError("mine")

    transport, protocol, peer = await p.connected(data_received=fail)
    peer.sendall(b"x")
    await protocol.seen("connection_lost")


@probe(debug=True)
async def raising_os_error_in_debug_mode(p):
    def fail(self, data):
        raise ConnectionResetError("mine")

    transport, protocol, peer = await p.connected(data_received=fail)
    peer.sendall(b"x")
    await protocol.seen("connection_lost")


@probe
async def raising_in_pause_and_resume_writing(p):
    def fail(self):
        raise ValueError("flow")

    transport, protocol, peer = await p.connected(pause_writing=fail, resume_writing=fail)
    transport.write(BIG)
    await asyncio.to_thread(read_exactly, peer, len(BIG))
    await protocol.seen("resume_writing")
    p.note(transport.is_closing())


@probe
async def closing_in_pause_writing(p):
    def close(self):
        self.transport.close()

    transport, protocol, peer = await p.connected(pause_writing=close)
    transport.write(BIG)
    p.note(len(await asyncio.to_thread(read_all, peer)))
    await protocol.seen("connection_lost")


@probe
async def flow_control_over_a_slow_reader(p):
    transport, protocol, peer = await p.connected()
    transport.set_write_buffer_limits(high=1000, low=100)
    transport.write(BIG)
    transport.write(b"more")
    p.note(transport.get_write_buffer_size() > 1000)
    await asyncio.to_thread(read_exactly, peer, len(BIG) + 4)
    await protocol.seen("resume_writing")
    p.note(transport.get_write_buffer_size())


@probe
async def limits_lowered_below_what_is_queued(p):
    transport, protocol, peer = await p.connected()
    transport.set_write_buffer_limits(high=10 * len(BIG))
    transport.write(BIG)
    p.note(protocol.seen_calls)
    transport.set_write_buffer_limits(high=10)
    p.note(protocol.seen_calls)
    transport.abort()
    await protocol.seen("connection_lost")


@probe
async def abort_while_paused_by_flow_control(p):
    transport, protocol, peer = await p.connected()
    transport.write(BIG)
    transport.abort()
    p.note(transport.get_write_buffer_size())
    await protocol.seen("connection_lost")


@probe
async def close_while_paused_by_flow_control(p):
    transport, protocol, peer = await p.connected()
    transport.write(BIG)
    transport.close()
    p.call(transport.write, b"x")
    p.note(transport.get_write_buffer_size() > 0)
    p.note(len(await asyncio.to_thread(read_all, peer)))
    await protocol.seen("connection_lost")


@probe
async def switch_inside_data_received(p):
    other = p.make("other.")

    def switch(self, data):
        self.transport.set_protocol(other)

    transport, protocol, peer = await p.connected(data_received=switch)
    peer.sendall(b"first")
    await p.settle()
    peer.sendall(b"second")
    await other.received(6)
    transport.close()
    await other.seen("connection_lost")


@probe
async def switch_to_buffered_and_back(p):
    buffered = p.make("buffered.", Buffered)
    plain_again = p.make("plain.")

    def to_buffered(self, data):
        self.transport.set_protocol(buffered)

    transport, protocol, peer = await p.connected(data_received=to_buffered)
    for data in (b"one", b"two", b"three"):
        peer.sendall(data)
        await p.settle()
        if data == b"two":
            transport.set_protocol(plain_again)
    p.note(transport.get_protocol() is plain_again)


@probe
async def switch_inside_eof_received(p):
    other = p.make("other.")

    def switch(self):
        self.transport.set_protocol(other)

    transport, protocol, peer = await p.connected(eof_received=switch)
    peer.shutdown(socket.SHUT_WR)
    await other.seen("connection_lost")


@probe
async def switch_inside_connection_made(p):
    other = p.make("other.")

    def switch(self):
        self.transport.set_protocol(other)

    for role in ("server", "client"):
        transport, protocol, peer = await p.connected(role=role, connection_made=switch)
        peer.sendall(b"x")
        await other.seen("data_received")


def buffer(make):
    async def run(p):
        transport, protocol, peer = await p.connected(
            kind=Buffered, get_buffer=lambda self, hint: make()
        )
        peer.sendall(b"0123456789")
        await p.settle()
        peer.close()
        await p.settle()
        if not transport.is_closing():
            transport.abort()
        await protocol.seen("connection_lost")

    return run


table(
    "get_buffer",
    {
        "empty": buffer(bytearray),
        "empty-view": buffer(lambda: memoryview(bytearray(4))[4:]),
        "none": buffer(lambda: None),
        "text": buffer(lambda: "x"),
        "read-only": buffer(lambda: bytes(10)),
        "read-only-view": buffer(lambda: memoryview(bytearray(10)).toreadonly()),
        "view": buffer(lambda: memoryview(bytearray(100))[10:20]),
        "view-strided": buffer(lambda: memoryview(bytearray(100))[::2]),
        "array": buffer(lambda: array.array("b", bytes(20))),
        "array-of-int": buffer(lambda: array.array("i", [0] * 10)),
        "exact": buffer(lambda: bytearray(10)),
    },
)


@probe
async def small_buffer_of_a_buffered_protocol(p):
    received = bytearray()

    def take(self, count):
        received.extend(self.buffer[:count])

    transport, protocol, peer = await p.connected(
        kind=Buffered, get_buffer=lambda self, hint: self.buffer, buffer_updated=take
    )
    protocol.buffer = bytearray(4)
    peer.sendall(b"0123456789")
    await protocol.received(10)
    p.note(received)


@probe
async def context_of_each_callback(p):
    """Callbacks of a client see the context of the call that connected."""
    seen = {}

    def see(method):
        def note(self, *args):
            seen[method] = VARIABLE.get()

        return note

    methods = ("connection_made", "data_received", "eof_received", "connection_lost",
               "pause_writing", "resume_writing")  # fmt: skip
    VARIABLE.set("connecting")
    transport, protocol, peer = await p.connected(
        role="client", **{method: see(method) for method in methods}
    )
    VARIABLE.set("later")
    peer.sendall(b"x")
    await protocol.seen("data_received")
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("connection_lost")
    p.note(seen)


@probe
async def context_of_flow_control(p):
    seen = []

    def note(self):
        seen.append(VARIABLE.get())

    VARIABLE.set("connecting")
    transport, protocol, peer = await p.connected(
        role="client", pause_writing=note, resume_writing=note
    )
    VARIABLE.set("writing")
    transport.write(BIG)
    await asyncio.to_thread(read_exactly, peer, len(BIG))
    await protocol.seen("resume_writing")
    p.note(seen)


@probe
async def context_of_a_server(p):
    seen = []
    VARIABLE.set("serving")

    def note(self, *args):
        seen.append(VARIABLE.get())

    def factory():
        seen.append(VARIABLE.get())
        return p.make(connection_made=note, data_received=note)

    server = await p.loop.create_server(factory, "127.0.0.1", 0)
    VARIABLE.set("later")
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.sendall(b"x")
        while len(seen) < 3:
            await p.settle()
    server.close()
    p.note(seen)


@probe
async def repr_of_a_transport(p):
    transport, protocol, peer = await p.connected()
    p.note(repr(transport))
    transport.pause_reading()
    p.note("paused")
    transport.write(BIG)
    p.note(repr(transport).partition("bufsize")[0].partition("read=")[0])
    transport.abort()
    p.note(repr(transport).partition("read=")[0])
    await protocol.seen("connection_lost")
    await p.settle()
    p.note(repr(transport))


@probe(debug=True)
async def debug_logs_of_a_connection(p):
    transport, protocol, peer = await p.connected(role="client")
    await p.settle()
    transport.pause_reading()
    transport.resume_reading()
    peer.sendall(b"x")
    await protocol.received(1)
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("connection_lost")


@probe(debug=True)
async def debug_logs_of_a_server_connection(p):
    transport, protocol, peer = await p.connected(eof_received=lambda self: True)
    peer.shutdown(socket.SHUT_WR)
    await protocol.seen("eof_received")
    transport.close()
    await protocol.seen("connection_lost")


@probe
async def streams_end_to_end(p):
    async def serve(reader, writer):
        p.note(await reader.readline())
        writer.write(b"answer\n")
        await writer.drain()
        p.note(await reader.read())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"question\n")
    p.note(await reader.readline())
    writer.write_eof()
    p.note(await reader.read())
    p.note(reader.at_eof(), writer.is_closing(), writer.can_write_eof())
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@probe
async def stream_errors(p):
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=16)
    await p.wait(reader.readexactly, 5)
    await p.wait(reader.readexactly, -1)
    await p.wait(reader.readuntil, b"")
    await p.wait(reader.readline)
    writer.close()
    await p.wait(writer.wait_closed)
    p.call(writer.write, b"late")
    await p.wait(writer.drain)
    server.close()


@probe
async def stream_handler_that_raises(p):
    async def serve(reader, writer):
        raise ValueError("handler")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        await p.settle()
        p.note(await asyncio.to_thread(read_all, peer))
    server.close()
