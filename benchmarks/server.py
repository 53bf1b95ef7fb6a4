# SPDX-License-Identifier: MIT
"""The echo server of the network cases, on the loop named on the command line.

    server.py --loop NAME --proto protocol|buffered|streams|lines|sock|udp
              (--host ADDRESS | --unix PATH)

Prints "ready PORT" (0 for a unix socket) when it listens and serves until it is killed. The name
c-pycall stands for the extension module in c/pycall_echo.c, which has only the protocol kind.
"""

import argparse
import asyncio
import importlib
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import cprograms
import loops

BACKLOG = 1024
READ_BYTES = 65536
DATAGRAM_BUFFER = 1 << 20


class Echo(asyncio.Protocol):
    """What every loop is measured with: one call in, one call out."""

    __slots__ = ("transport",)
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The loop receives into this object's own buffer; the reply is a copy, as a writer needs."""

    __slots__ = ("buffer", "transport", "view")
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(READ_BYTES)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        """Offer the same buffer each time."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send it back."""
        self.transport.write(bytes(self.view[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    """One call in, one call out, with the peer's address."""

    __slots__ = ("transport",)
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


class LimitEcho:
    """Echo for c-pycall: no base class, and the transport comes with the constructor."""

    __slots__ = ("transport",)

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


async def stream_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo with the streams API, flow control included."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def sock_echo(connection: socket.socket) -> None:
    """Echo with the loop's socket methods, one task a connection."""
    loop = asyncio.get_running_loop()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(connection, READ_BYTES):
            await loop.sock_sendall(connection, data)


async def sock_serve(listener: socket.socket) -> NoReturn:
    """Accept and echo, for ever."""
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = loop.create_task(sock_echo(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def line_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo line by line with the streams API, flow control included."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


STREAMS: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = {
    "streams": stream_echo,
    "lines": line_echo,
}

PROTOCOLS: dict[str, Callable[[], asyncio.BaseProtocol]] = {
    "protocol": Echo,
    "buffered": BufferedEcho,
}


async def listen(proto: str, host: str | None, path: str | None) -> asyncio.Server:
    """Start the server of that kind on a port of the system's choice, or on the path."""
    loop = asyncio.get_running_loop()
    if path:
        if proto in STREAMS:
            return await asyncio.start_unix_server(STREAMS[proto], path, backlog=BACKLOG)
        return await loop.create_unix_server(PROTOCOLS[proto], path, backlog=BACKLOG)
    if proto in STREAMS:
        return await asyncio.start_server(STREAMS[proto], host, 0, backlog=BACKLOG)
    return await loop.create_server(PROTOCOLS[proto], host, 0, backlog=BACKLOG)


async def serve_datagrams(host: str | None, path: str | None) -> None:
    """Do the same with datagrams; the socket has room for one of each of a hundred peers."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
    listener.bind(path or (host, 0))
    loop = asyncio.get_running_loop()
    endpoint = await loop.create_datagram_endpoint(DatagramEcho, sock=listener)
    print("ready", 0 if path else listener.getsockname()[1], flush=True)
    await loop.create_future()
    del endpoint


async def serve(proto: str, host: str | None, path: str | None) -> None:
    """Listen, say so, and never return."""
    if proto == "udp":
        await serve_datagrams(host, path)
    if proto == "sock":
        listener = socket.create_server((host, 0), backlog=BACKLOG)
        listener.setblocking(False)
        print("ready", listener.getsockname()[1], flush=True)
        await sock_serve(listener)
    server = await listen(proto, host, path)
    print("ready", 0 if path else server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


def serve_limit(host: str | None, path: str | None) -> NoReturn:
    """The same for the C loop that makes one Python call a message."""
    sys.path.insert(0, str(cprograms.pycall_echo().parent))
    pycall_echo = importlib.import_module("pycall_echo")
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(path or (host, 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    print("ready", 0 if path else listener.getsockname()[1], flush=True)
    pycall_echo.serve(listener.fileno(), LimitEcho)
    raise AssertionError("serve() returned")


def fill_heap() -> list[bytes]:
    """Use up the memory that is free but resident (what imports left behind, megabytes of it).

    Otherwise the first thousands of connections would fit into it and seem to cost nothing. The
    caller keeps the result.
    """
    each_bytes = 512 * 1024
    small = range(2, 512, 16)
    large = range(512, 4096, 256)
    return [bytes(size) for size in (*small, *large) for _ in range(each_bytes // (size + 33))]


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", required=True, choices=[*loops.FACTORIES, "c-pycall"])
    kinds = [*PROTOCOLS, *STREAMS, "sock", "udp"]
    parser.add_argument("--proto", default="protocol", choices=kinds)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--host")
    where.add_argument("--unix")
    parser.add_argument("--fill-heap", action="store_true", help="for measuring memory")
    args = parser.parse_args()
    ballast = fill_heap() if args.fill_heap else []
    if args.loop == "c-pycall":
        serve_limit(args.host, args.unix)
    with asyncio.Runner(loop_factory=loops.factory(args.loop)) as runner:
        runner.run(serve(args.proto, args.host, args.unix))
    del ballast


if __name__ == "__main__":
    main()
