# SPDX-License-Identifier: MIT
"""Behaviour probes: the same small program on stock asyncio and on hoop, outcomes compared.

A probe is a function that takes a `Probe`; it is run once per loop, and what it notes (values,
exceptions, callbacks in their order), what reached the exception handler and asyncio's log,
warnings, and descriptors left open must be the same, or differ as differences.py says.
Adding one:

    @probe
    async def write_after_close(p):
        transport, protocol, peer = await p.connected()
        transport.close()
        p.call(transport.write, b"x")

`async def` probes run on the loop, plain ones drive it themselves. Numbers that vary (ports,
addresses, descriptors, times) and names of classes are masked in what is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import re
import socket
import sys
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import loopkit

PROBES: dict[str, Case] = {}
LIMIT = 5.0
"""Seconds a probe may take; a hang is an outcome too."""

_MASKS = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"0x[0-9a-f]+", "0x#"),
        (r"\b(fd=|[Ff]ile descriptor |fd \[?)\d+", r"\1#"),
        (r"\b\d{4,}\b", "#"),
        (r"\bTask-\d+", "Task-#"),
        # CPython's words for the arguments of a C function are others than for Python's.
        (
            r"TypeError\(([\w.]*\b)?(\w+)\(\) (missing|takes|got an unexp|expected).*",
            r"TypeError(\2() args)",
        ),
        (r"TypeError\('\w+' is an invalid keyword argument for (\w+)\(.*", r"TypeError(\1() args)"),
        (r"\d+\.\d+ (seconds|ms)", r"# \1"),
        # run_until_complete() is in C, so its task was made where it was called.
        (r"(Executing <Task ).* took", r"\1 took"),
        # Reading begins an iteration later, before anything can be read: only this log shows it.
        (r"(connected to [^ ]+:) .*", r"\1"),
        # There is no handle behind a protocol's methods: transport and protocol are told instead.
        (
            r"callback (?:StreamTransport\._call_|\w+\.)(connection_(?:made|lost))\(.*?\)', "
            r"exception: (.*), (?:handle: <Handle>|transport: <Transport>, protocol: .*)}",
            r"callback \1', exception: \2}",
        ),
        (r"\b_SelectorSocketTransport\b|\bSocketTransport\b", "StreamTransport"),
        (r"\b_SelectorDatagramTransport\b", "DatagramTransport"),
        (r"\b_UnixReadPipeTransport\b", "ReadPipeTransport"),
        (r"\b_UnixWritePipeTransport\b", "WritePipeTransport"),
        (r"<(_UnixSelectorEventLoop|Loop) ", "<Loop "),
    )
]


@dataclass
class Case:
    """A probe and what is known of it."""

    name: str
    function: Callable[[Probe], Any]
    since: tuple[int, ...] = (3, 0)
    before: tuple[int, ...] = (4, 0)
    debug: bool = False


def probe(
    function: Callable[[Probe], Any] | None = None, *, name: str | None = None, **known: Any
) -> Any:
    """Register a probe; as a decorator with or without arguments (fields of Case)."""

    def register(function: Callable[[Probe], Any]) -> Callable[[Probe], Any]:
        folder = function.__globals__["__name__"].removeprefix("probes_")
        full = f"{folder}.{name or function.__name__}"
        assert full not in PROBES, full
        PROBES[full] = Case(full, function, **known)
        return function

    return register if function is None else register(function)


def table(prefix: str, calls: dict[str, Callable[[Probe], Any]], **known: Any) -> None:
    """One probe for each call: its result, awaited if need be, or its exception is noted."""
    for key, call in calls.items():

        async def run(p: Probe, call: Callable[[Probe], Any] = call) -> None:
            await p.wait(call, p)

        module = sys._getframe(1).f_globals["__name__"].removeprefix("probes_")
        full = f"{module}.{prefix}-{key}"
        assert full not in PROBES, full
        PROBES[full] = Case(full, run, **known)


def scrub(text: str) -> str:
    """`text` without what varies between two runs."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


def plain(value: Any) -> str:
    """`value` as text that is the same on both loops if the behaviour is."""
    if isinstance(value, BaseException):
        return plain_exception(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(plain, value)) + "]"
    if isinstance(value, asyncio.AbstractEventLoop):
        return "<loop>"
    if isinstance(value, asyncio.BaseTransport):
        kinds = (asyncio.Transport, asyncio.DatagramTransport, asyncio.SubprocessTransport)
        return f"<{next((k.__name__ for k in kinds if isinstance(value, k)), 'BaseTransport')}>"
    if isinstance(value, asyncio.Handle):
        return f"<{value.__class__.__name__}>"
    if isinstance(value, (socket.socket, asyncio.trsock.TransportSocket)):
        return f"<{type(value).__name__} {value.fileno() >= 0}>"
    if type(value).__repr__ is object.__repr__:
        return f"<{type(value).__name__}>"
    return scrub(repr(value))


def plain_exception(exception: BaseException) -> str:
    """Type, text, number and cause of an exception."""
    text = f"{type(exception).__name__}({scrub(str(exception))})"
    if isinstance(exception, OSError):
        text += f" errno={exception.errno}"
    if isinstance(exception, BaseExceptionGroup):
        text += plain(exception.exceptions)
    if exception.__cause__ is not None:
        text += f" from {plain_exception(exception.__cause__)}"
    return text


class _LogNotes(logging.Handler):
    def __init__(self, probe: Probe) -> None:
        super().__init__(logging.DEBUG)
        self._probe = probe

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().splitlines()[0]
        if not text.startswith("Using selector"):
            raised = record.exc_info[1] if record.exc_info else None
            self._probe.note("log", record.levelname, text, *([raised] if raised else []))


class Recorded(asyncio.BaseProtocol):
    """Notes each call; `methods` are called after the note, with the protocol as `self`."""

    def __init__(self, probe: Probe, name: str, methods: dict[str, Callable[..., Any]]) -> None:
        self._probe, self._name, self._methods = probe, name, methods
        self._changed = asyncio.Event()
        self.seen_calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.buffer = bytearray(64)

    def _called(self, method: str, *args: Any) -> Any:
        self.seen_calls.append(method)
        self._probe.note(self._name + method, *args)
        self._changed.set()
        if method in self._methods:
            return self._methods[method](self, *args)
        return None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._called("connection_made")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._called("connection_lost", exc)

    def pause_writing(self) -> None:
        self._called("pause_writing")

    def resume_writing(self) -> None:
        self._called("resume_writing")

    async def seen(self, method: str, count: int = 1) -> None:
        """Wait until `method` has been called `count` times."""
        while self.seen_calls.count(method) < count:
            self._changed.clear()
            await self._changed.wait()

    async def received(self, size: int) -> bytes:
        """Wait for `size` bytes in all."""
        while len(self.data) < size:
            self._changed.clear()
            await self._changed.wait()
        return bytes(self.data)


class Stream(Recorded, asyncio.Protocol):
    """A recorded stream protocol."""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._called("data_received", *([data] if len(data) < 100 else []))

    def eof_received(self) -> Any:
        return self._called("eof_received")


class Buffered(Recorded, asyncio.BufferedProtocol):
    """A recorded stream protocol with a buffer of its own."""

    def get_buffer(self, sizehint: int) -> Any:
        value = self._called("get_buffer", sizehint)
        return self.buffer if "get_buffer" not in self._methods else value

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self._called("buffer_updated", nbytes)

    def eof_received(self) -> Any:
        return self._called("eof_received")


class Datagrams(Recorded, asyncio.DatagramProtocol):
    """A recorded datagram protocol."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._called("datagram_received", data, addr)

    def error_received(self, exc: Exception) -> None:
        self._called("error_received", exc)


class Probe:
    """One run of a probe on one loop: what it works with, and what it notes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> None:
        self.loop: Any = loop
        self.notes: list[str] = []
        self.stack = stack
        self._folder: str | None = None

    @property
    def folder(self) -> str:
        """A folder for this run, gone afterwards."""
        if self._folder is None:
            self._folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="hoop"))
        return self._folder

    def note(self, *what: Any) -> None:
        """Add to what is compared."""
        text = " ".join(w if isinstance(w, str) else plain(w) for w in what)
        if self._folder is not None:
            text = text.replace(self._folder, "<folder>")
        self.notes.append(scrub(text))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call and note the result or the exception; the result, None after an exception."""
        try:
            value = function(*args, **kwargs)
        except Exception as exc:
            self.note("raised", exc)
            return None
        self.note("returned", value)
        return value

    async def wait(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, await if it is awaitable, note the outcome; what must be closed is closed later."""
        try:
            value = function(*args, **kwargs)
            if isinstance(value, Awaitable):
                value = await value
        except Exception as exc:
            self.note("raised", exc)
            return None
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, (asyncio.BaseTransport, asyncio.AbstractServer)):
            self.stack.callback(first.close)
        self.note("returned", value)
        return value

    def make(self, name: str = "", kind: type[Recorded] = Stream, **methods: Any) -> Any:
        """A recorded protocol; `methods` are what it does beyond noting the calls."""
        return kind(self, name, methods)

    def factory(self, name: str = "", kind: type[Recorded] = Stream, **methods: Any) -> Any:
        """A protocol factory of `make`."""
        return lambda: self.make(name, kind, **methods)

    def own(self, sock: socket.socket) -> socket.socket:
        """Close `sock` after the run; a nonblocking one."""
        sock.setblocking(False)
        return self.stack.enter_context(sock)

    def socket(self, *args: Any) -> socket.socket:
        """A nonblocking socket of the run's."""
        return self.own(socket.socket(*args))

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A nonblocking unix socket pair."""
        one, two = socket.socketpair()
        return self.own(one), self.own(two)

    def listening(self, *, accept: bool = True) -> socket.socket:
        """A raw listening TCP socket; without `accept` nothing listens at its address."""
        sock = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sock.settimeout(LIMIT)
        if not accept:
            sock.close()
        return sock

    @property
    def closed_port(self) -> int:
        """A port nobody listens at."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            return int(sock.getsockname()[1])

    async def connected(
        self, *, role: str = "server", kind: type[Recorded] = Stream, **methods: Any
    ) -> tuple[Any, Any, socket.socket]:
        """A TCP transport with a recorded protocol, and the blocking socket at the other end."""
        protocol = self.make("", kind, **methods)
        if role == "server":
            server = await self.loop.create_server(lambda: protocol, "127.0.0.1", 0)
            self.stack.callback(server.close)
            peer = loopkit.connect_to(loopkit.address_of(server))
            self.stack.enter_context(peer)
            await protocol.seen("connection_made")
        else:
            listening = self.listening()
            address = listening.getsockname()
            await self.loop.create_connection(lambda: protocol, *address)
            peer, _ = listening.accept()
            peer.settimeout(LIMIT)
            self.stack.enter_context(peer)
        self.stack.callback(self._abort, protocol)
        return protocol.transport, protocol, peer

    def _abort(self, protocol: Recorded) -> None:
        if "connection_lost" not in protocol.seen_calls:
            protocol.transport.abort()

    async def settle(self) -> None:
        """Let what is on its way arrive: for what must not happen. Loopback delivers at once."""
        for _ in range(3):
            await asyncio.sleep(0.001)

    def run(self, awaitable: Any) -> Any:
        """Drive the loop, from a probe that isn't a coroutine."""
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, LIMIT))

    def reset(self, peer: socket.socket) -> None:
        """Close so that the other end gets RST."""
        loopkit.send_reset(peer)


def _wind_up(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> None:
    """Close what the probe left, as asyncio.run would."""
    if loop.is_closed():
        stack.close()
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()

    async def end() -> None:
        stack.close()
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    loop.run_until_complete(asyncio.wait_for(end(), LIMIT))
    loop.close()


@contextlib.contextmanager
def _logs_to(probe: Probe) -> Any:
    logger, handler = logging.getLogger("asyncio"), _LogNotes(probe)
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def _run(case: Case, loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        probe = Probe(loop, stack)
        probe.notes = notes
        loop.set_debug(case.debug)
        loop.set_exception_handler(lambda _, context: probe.note("handler", context))
        with _logs_to(probe):
            try:
                if inspect.iscoroutinefunction(case.function):
                    loop.run_until_complete(asyncio.wait_for(case.function(probe), LIMIT))
                else:
                    case.function(probe)
            except TimeoutError:
                notes.append("HUNG")
            loop.set_debug(False)
            _wind_up(loop, stack)


def outcome(case: Case, loop_name: str) -> list[str]:
    """What the probe notes on this loop, and what it leaves behind."""
    gc.freeze()
    before = loopkit.open_fds()
    notes: list[str] = []
    saved = sys.unraisablehook
    sys.unraisablehook = lambda u: notes.append(f"unraisable {plain(u.exc_value)}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = loopkit.factory_of(loop_name)()
            try:
                _run(case, loop, notes)
            finally:
                loop.close()
            del loop
            gc.collect()
    finally:
        sys.unraisablehook = saved
        gc.unfreeze()
    notes += sorted(f"warning {w.category.__name__} {scrub(str(w.message))}" for w in caught)
    left = [what for fd, what in loopkit.open_fds().items() if before.get(fd) != what]
    notes += [scrub(f"left open {what}") for what in left]
    return notes


def script(name: str, code: str, **known: Any) -> None:
    """Register a probe in an interpreter of its own: `factory` makes the loop."""

    def run(p: Probe) -> None:
        loop_name = "hoop" if type(p.loop).__module__.startswith("hoop") else "asyncio"
        done = loopkit.run_script(loop_name, code, env={"PYTHONTRACEMALLOC": "0"})
        p.note("exit", done.returncode)
        for line in done.stdout.splitlines():
            p.note("out", line)
        errors = [line for line in done.stderr.splitlines() if not line.startswith((" ", "\t"))]
        for line in errors:
            p.note("err", line)

    PROBES[f"script.{name}"] = Case(f"script.{name}", run, **known)


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    times = os.times()
    return times.user + times.system
