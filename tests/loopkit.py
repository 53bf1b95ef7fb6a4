# SPDX-License-Identifier: MIT
"""What the Python tests share: loops by name, recording protocols, connections to a raw socket.

A *raw* peer is a blocking socket with a timeout in the test's own hands, so a test decides exactly
what the transport sees and when; the transport under test is always made by a real server or a
real `create_connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import Any

LOOP_NAMES = ("asyncio", "hoop")
TIMEOUT = 30.0
"""Seconds after which an awaited step counts as hung; never waited for in a passing test."""

_serial = itertools.count()


def factory_of(loop_name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The loop class or callable that stands behind the test parameter `loop_name`."""
    if loop_name == "asyncio":
        return asyncio.SelectorEventLoop
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
        "hoop"
    ).new_event_loop
    return factory


def open_fds() -> dict[int, str]:
    """Descriptors of this process with what they refer to."""
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return fds


def run_script(
    loop_name: str,
    code: str,
    *,
    python_args: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter where the name `factory` makes the loop under test."""
    process = start_script(loop_name, code, python_args=python_args, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"script hung\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_script(
    loop_name: str,
    code: str,
    *,
    python_args: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Like run_script, but return the running process (text pipes on all three streams)."""
    preamble = f"from loopkit import factory_of\nfactory = factory_of({loop_name!r})\n"
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *python_args, "-c", preamble + textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "", **(env or {})},
    )


class Recorder(asyncio.Protocol):
    """Protocol that notes every call in `events` and all bytes in `data`."""

    keep_open: bool | None = None  # what eof_received() returns

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.exception: BaseException | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._changed = asyncio.Event()

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._note("connection_made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data_received")

    def eof_received(self) -> bool | None:
        self._note("eof_received")
        return self.keep_open

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.exception = exc
        self._note("connection_lost")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` holds; it is asked again after each protocol call."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def seen(self, event: str, count: int = 1) -> None:
        """Wait until `event` has been called `count` times."""
        await self.until(lambda: self.events.count(event) >= count)

    async def received(self, size: int) -> bytes:
        """Wait for `size` bytes in all; return everything that has come."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same through get_buffer/buffer_updated, with a buffer of `buffer_size` bytes."""

    buffer_size = 4096

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.buffer_size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self._note("buffer_updated")


class Echo(asyncio.Protocol):
    """Protocol that sends back what it gets, pausing its reads while its writes are paused."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def pause_writing(self) -> None:
        self.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_writing(self) -> None:
        self.transport.resume_reading()  # type: ignore[attr-defined]


def listener(kind: str, backlog: int = 100) -> socket.socket:
    """A listening blocking socket of `kind` ("tcp" or "unix", the latter with an abstract name)."""
    if kind == "tcp":
        sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"\0hoop-test-{os.getpid()}-{next(_serial)}")
        sock.listen(backlog)
    sock.settimeout(TIMEOUT)
    return sock


def connect_to(address: Any) -> socket.socket:
    """A blocking socket connected to `address` (a TCP address, or a unix path or name)."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    if family == socket.AF_INET and len(address) == 4:
        family = socket.AF_INET6
    sock = socket.socket(family)
    sock.settimeout(TIMEOUT)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(server: asyncio.Server) -> Any:
    """The address of a server's first socket."""
    return server.sockets[0].getsockname()


def read_all(sock: socket.socket) -> bytes:
    """Receive until the end of the stream."""
    chunks = []
    while chunk := sock.recv(1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive `size` bytes; fewer if the stream ends."""
    data = bytearray()
    while len(data) < size and (chunk := sock.recv(size - len(data))):
        data += chunk
    return bytes(data)


def send_reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer gets RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run a blocking call (mostly on a raw peer) beside the loop."""
    return await asyncio.wait_for(asyncio.to_thread(function, *args), TIMEOUT)


async def start_server(kind: str, protocol_factory: Any, **options: Any) -> asyncio.Server:
    """A server of `kind` on 127.0.0.1 or an abstract unix name."""
    loop = asyncio.get_running_loop()
    if kind == "tcp":
        return await loop.create_server(protocol_factory, "127.0.0.1", 0, **options)
    name = f"\0hoop-test-{os.getpid()}-{next(_serial)}"
    return await loop.create_unix_server(protocol_factory, name, **options)


async def connect(address: Any, protocol_factory: Any, **options: Any) -> tuple[Any, Any]:
    """create_connection or create_unix_connection, by the kind of address."""
    loop = asyncio.get_running_loop()
    if isinstance(address, tuple):
        return await loop.create_connection(protocol_factory, *address[:2], **options)
    if isinstance(address, bytes):  # an abstract name, as getsockname() gives it
        address = os.fsdecode(address)
    return await loop.create_unix_connection(protocol_factory, address, **options)


@contextlib.asynccontextmanager
async def connection(
    kind: str, role: str, protocol_factory: Callable[[], Any] = Recorder
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """One transport of `kind` whose other end is a raw blocking socket.

    `role` is the side the transport plays: "server" (accepted by a server of the loop) or
    "client" (made by create_connection). Yields (transport, protocol, peer); the protocol must
    be a Recorder. Whatever is still open afterwards is aborted.
    """
    protocols: list[Any] = []

    def make() -> Any:
        protocols.append(protocol_factory())
        return protocols[-1]

    async with contextlib.AsyncExitStack() as stack:
        if role == "server":
            server = await start_server(kind, make)
            stack.callback(server.close)
            peer = connect_to(address_of(server))
            while not protocols:
                await asyncio.sleep(0)
            protocol = protocols[0]
            await protocol.until(lambda: protocol.transport is not None)
            transport = protocol.transport
        else:
            with listener(kind) as sock:
                transport, protocol = await connect(sock.getsockname(), make)
                peer, _ = sock.accept()
                peer.settimeout(TIMEOUT)
        with peer:
            try:
                yield transport, protocol, peer
            finally:
                if "connection_lost" not in protocol.events:
                    transport.abort()
        await protocol.seen("connection_lost")
        # The descriptor is closed after connection_lost returned.
        await asyncio.sleep(0)


class DatagramRecorder(asyncio.DatagramProtocol):
    """The same for datagrams: `received` has (data, address) pairs, `failures` the errors."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.failures: list[Exception] = []
        self.exception: BaseException | None = None
        self.transport: Any = None
        self._changed = asyncio.Event()

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        self._note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.failures.append(exc)
        self._note("error_received")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.exception = exc
        self._note("connection_lost")

    until = Recorder.until
    seen = Recorder.seen

    @property
    def data(self) -> list[bytes]:
        """What has come, without the addresses."""
        return [data for data, _ in self.received]


def datagram_socket(kind: str) -> socket.socket:
    """A bound blocking socket of `kind`: "udp", "udp6" or "unix" (the latter with a name)."""
    families = {"udp": socket.AF_INET, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX}
    sock = socket.socket(families[kind], socket.SOCK_DGRAM)
    sock.settimeout(5.0)  # for what has been sent already
    if kind == "unix":
        sock.bind(f"\0hoop-test-{os.getpid()}-{next(_serial)}")
    else:
        sock.bind(("127.0.0.1" if kind == "udp" else "::1", 0))
    return sock


async def receive_datagrams(sock: socket.socket, count: int) -> list[bytes]:
    """Receive so many datagrams, letting the loop run whenever there is none."""
    received: list[bytes] = []
    timeout = sock.gettimeout()
    sock.settimeout(0)
    while len(received) < count:
        try:
            received.append(sock.recv(1 << 17))
        except BlockingIOError:
            await asyncio.sleep(0)
    sock.settimeout(timeout)
    return received


@contextlib.asynccontextmanager
async def datagram_endpoint(
    kind: str, protocol_factory: Callable[[], Any] = DatagramRecorder, *, connected: bool = False
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """One datagram transport and a raw blocking socket as its peer.

    Yields (transport, protocol, peer). If `connected`, the transport's socket is connected to the
    peer. What is still open afterwards is aborted.
    """
    loop = asyncio.get_running_loop()
    with datagram_socket(kind) as peer:
        sock = datagram_socket(kind)
        if connected:
            sock.connect(peer.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(protocol_factory, sock=sock)
        try:
            yield transport, protocol, peer
        finally:
            if not transport.is_closing():
                transport.abort()
        await protocol.seen("connection_lost")
        # The descriptor is closed after connection_lost returned.
        await asyncio.sleep(0)
