# SPDX-License-Identifier: MIT
"""Ends of connections: resets, hang-ups and half-closes in every state, servers that close."""

import asyncio
import os
import socket

from loopkit import address_of, connect_to, read_all, send_reset
from probekit import Buffered, probe, table

BIG = b"b" * 8_000_000


def ended(how, state, role="server", kind=None):
    """A transport in `state` whose peer goes away in the way `how`."""

    async def run(p):
        more = {"kind": kind} if kind else {}
        keeps = {"eof_received": lambda self: True} if state == "half-closed" else {}
        transport, protocol, peer = await p.connected(role=role, **more, **keeps)
        if state == "unread":
            transport.write(b"unread")
            await p.settle()
        elif state == "unsent":
            transport.write(BIG)
        elif state == "unsent-paused":
            transport.pause_reading()
            transport.write(BIG)
        elif state == "paused":
            transport.pause_reading()
        elif state == "eof-written":
            transport.write_eof()
        elif state == "half-closed":
            peer.shutdown(socket.SHUT_WR)
            await protocol.seen("eof_received")
        elif state == "closing":
            transport.write(BIG)
            transport.close()
        elif state == "data-first":
            peer.sendall(b"data")
        how(peer)
        await p.settle()
        p.note("closing", transport.is_closing())
        if state == "paused":
            p.note("resume")
            transport.resume_reading()
            await p.settle()
        if not transport.is_closing():
            transport.write(b"to whom")
            await p.settle()
            p.note("after write", transport.is_closing())
        if not transport.is_closing():
            transport.write(b"again")
            await p.settle()
            p.note("after two", transport.is_closing())
        transport.abort()
        await protocol.seen("connection_lost")

    return run


def hang_up(peer):
    peer.close()


def half_close(peer):
    peer.shutdown(socket.SHUT_WR)


def shut_both(peer):
    peer.shutdown(socket.SHUT_RDWR)


def stop_reading(peer):
    peer.shutdown(socket.SHUT_RD)


STATES = ("idle", "unread", "unsent", "unsent-paused", "paused", "eof-written", "half-closed",
          "closing", "data-first")  # fmt: skip
WAYS = {
    "reset": send_reset,
    "close": hang_up,
    "half": half_close,
    "both": shut_both,
    "read": stop_reading,
}
for _way, _how in WAYS.items():
    table(f"peer_{_way}", {state: ended(_how, state) for state in STATES})
table("peer_reset_client", {state: ended(send_reset, state, "client") for state in STATES})
table("peer_reset_buffered", {s: ended(send_reset, s, kind=Buffered) for s in ("idle", "paused")})


@probe
async def reset_before_accept(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0, start_serving=False)
    await server.start_serving()
    send_reset(connect_to(address_of(server)))
    await p.settle()
    server.close()


@probe
async def data_and_close_before_accept(p):
    protocol = p.make()
    server = await p.loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"hello")
    await protocol.seen("connection_lost")
    server.close()


@probe
async def shut_down_behind_the_back(p):
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        transport, protocol, peer = await p.connected()
        os_socket = p.own(socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())))
        os_socket.shutdown(how)
        await p.settle()
        transport.write(b"x")
        transport.write(b"y")
        await p.settle()
        p.note(transport.is_closing())
        transport.abort()
        await protocol.seen("connection_lost")


@probe
async def write_after_the_loss_warns(p):
    transport, protocol, peer = await p.connected()
    transport.abort()
    for _ in range(8):
        transport.write(b"x")
    await protocol.seen("connection_lost")
    for _ in range(3):
        transport.write(b"x")


@probe
async def force_close_is_private_but_used(p):
    transport, protocol, peer = await p.connected()
    transport._force_close(ValueError("mine"))
    await protocol.seen("connection_lost")


@probe
async def server_attributes(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0, start_serving=False)
    p.note(server.is_serving(), len(server.sockets), server.get_loop())
    await p.wait(server.start_serving)
    p.note(server.is_serving())
    await p.wait(server.start_serving)
    server.close()
    p.note(server.is_serving(), server.sockets)
    server.close()
    await p.wait(server.start_serving)
    await p.wait(server.serve_forever)


@probe
async def server_repr(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0)
    p.note(repr(server))
    server.close()
    p.note(repr(server))


@probe
async def serve_forever_twice(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0)
    first = asyncio.ensure_future(server.serve_forever())
    await p.settle()
    await p.wait(server.serve_forever)
    server.close()
    await asyncio.wait([first])
    p.note(first.cancelled() or first.exception())


@probe
async def serve_forever_cancelled(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0)
    task = asyncio.ensure_future(server.serve_forever())
    await p.settle()
    task.cancel()
    await asyncio.wait([task])
    p.note(task.cancelled(), server.is_serving(), server.sockets)


def closing(*calls):
    """A server with one idle connection: close, then these methods; who ends when."""

    async def run(p):
        protocol = p.make()
        server = await p.loop.create_server(lambda: protocol, "127.0.0.1", 0)
        p.stack.callback(server.close)
        peer = p.stack.enter_context(connect_to(address_of(server)))
        await protocol.seen("connection_made")
        for call in calls:
            p.call(getattr(server, call))
        waiting = asyncio.ensure_future(server.wait_closed())
        await p.settle()
        p.note("waited", waiting.done(), protocol.seen_calls)
        peer.close()
        await protocol.seen("connection_lost")
        await p.settle()
        p.note("then", waiting.done())
        server.close()
        await waiting

    return run


table("server_close", {"close": closing("close"), "nothing": closing()})
table(
    "server_close_clients",
    {
        "close-clients": closing("close", "close_clients"),
        "abort-clients": closing("close", "abort_clients"),
        "close-clients-only": closing("close_clients"),
        "abort-clients-only": closing("abort_clients"),
    },
    since=(3, 13),
)


@probe
async def wait_closed_before_close(p):
    server = await p.loop.create_server(p.factory(), "127.0.0.1", 0)
    waiting = asyncio.ensure_future(server.wait_closed())
    await p.settle()
    p.note(waiting.done())
    server.close()
    await p.settle()
    p.note(waiting.done())
    await waiting


@probe
async def close_clients_with_data_unsent(p):
    def write(self):
        self.transport.write(BIG)

    protocol = p.make(connection_made=write)
    server = await p.loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with connect_to(address_of(server)) as peer:
        await protocol.seen("connection_made")
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()
        else:
            protocol.transport.close()
        p.note(len(await asyncio.to_thread(read_all, peer)))
    await protocol.seen("connection_lost")
    await server.wait_closed()


@probe
async def factory_returns_none(p):
    server = await p.loop.create_server(lambda: None, "127.0.0.1", 0)
    with connect_to(address_of(server)) as peer:
        peer.sendall(b"x")
        await p.settle()
    await p.settle()
    server.close()


# Before, closing the socket is left to the collector.
@probe(since=(3, 14))
async def client_factory_raises(p):
    await p.wait(p.loop.create_connection, lambda: 1 / 0, *p.listening().getsockname())


@probe(since=(3, 14))
async def client_factory_returns_none(p):
    listening = p.listening()
    await p.wait(p.loop.create_connection, lambda: None, *listening.getsockname())
    await p.settle()


@probe(since=(3, 12))
async def the_same_socket_twice(p):
    first, second = p.pair()
    await p.loop.create_unix_connection(p.factory(), sock=first)
    await p.settle()
    await p.wait(p.loop.create_unix_connection, p.factory(), sock=first)
    await p.wait(p.loop.connect_accepted_socket, p.factory(), first)
    await p.wait(p.loop.sock_recv, first, 1)
    p.call(p.loop.add_reader, first, print)
    p.call(p.loop.remove_reader, first)


@probe
async def unix_pair_from_end_to_end(p):
    first, second = p.pair()
    one, two = p.make("one."), p.make("two.")
    await p.loop.connect_accepted_socket(lambda: one, first)
    await p.loop.create_unix_connection(lambda: two, sock=second)
    one.transport.write(b"hello")
    await two.received(5)
    two.transport.close()
    await one.seen("connection_lost")
    await two.seen("connection_lost")


@probe
async def loop_closed_with_a_transport_open(p):
    loop = type(p.loop)()
    holder = p.make()

    async def connect():
        server = await loop.create_server(lambda: holder, "127.0.0.1", 0)
        peer = p.stack.enter_context(connect_to(address_of(server)))
        await holder.seen("connection_made")
        return peer, server

    await asyncio.to_thread(
        lambda: p.notes.append("made") if loop.run_until_complete(connect()) else 0
    )
    loop.close()
    p.call(holder.transport.write, b"x")
    p.note(holder.transport.is_closing())
    p.call(holder.transport.get_write_buffer_size)
    p.call(holder.transport.close)
    p.note(holder.seen_calls)
    holder.transport.get_extra_info("socket")._sock.close()
