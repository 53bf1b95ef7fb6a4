# SPDX-License-Identifier: MIT
"""What the C half calls in Python because it is seldom: reports, descriptions, logs.

Texts are asyncio's own wherever asyncio has them.
"""

import asyncio
import inspect
import os
import socket
import sys
import traceback
from asyncio import base_events, format_helpers
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hoop._hoop import (
        DatagramTransport,
        ReadPipeTransport,
        SocketTransport,
        WritePipeTransport,
    )
    from hoop._loop import Loop

    _Transport = SocketTransport | DatagramTransport

ADDRESS_FAMILIES = {int(family): family for family in socket.AddressFamily}
SOCKET_KINDS = {int(kind): kind for kind in socket.SocketKind}

CONNECT_RETRY_DELAY = 0.005
_POLLED = {0: "idle", 1: "polling", 2: "polling", 3: "polling"}
_FORMATS_BY_DEBUG = "debug" in inspect.signature(format_helpers._format_callback_source).parameters


def _describe_call(handle: Any, debug: bool) -> str:
    options = {"debug": debug} if _FORMATS_BY_DEBUG else {}
    return format_helpers._format_callback_source(handle._callback, handle._args, **options)


def _is_debug(handle: Any) -> bool:
    return handle._loop is not None and handle._loop.get_debug()


def describe_handle(handle: Any) -> str:
    """Return `repr()` of a handle, as `asyncio.Handle` and `TimerHandle` write it."""
    if handle._repr is not None:
        text: str = handle._repr
        return text
    info = [handle.__class__.__name__]
    if handle._cancelled:
        info.append("cancelled")
    if isinstance(handle, asyncio.TimerHandle):
        info.append(f"when={handle.when()}")
    if handle._callback is not None:
        info.append(_describe_call(handle, _is_debug(handle)))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(info)}>"


def describe_transport(transport: "_Transport") -> str:
    """Return `repr()` of a transport, as asyncio's selector transports write it."""
    info = [type(transport).__name__]
    if transport._sock_fd < 0:
        info.append("closed")
    else:
        if transport.is_closing():
            info.append("closing")
        info.append(f"fd={transport._sock_fd}")
    loop = transport._loop
    if loop is not None and not loop.is_closed():
        polled = transport._polled_events
        info.append(f"read={_POLLED[polled & 1]}")
        info.append(f"write=<{_POLLED[polled & 2]}, bufsize={transport._queued_size}>")
    return f"<{' '.join(info)}>"


def describe_pipe(transport: "ReadPipeTransport | WritePipeTransport") -> str:
    """Return `repr()` of a pipe transport, as asyncio's write it."""
    info = [type(transport).__name__]
    if transport._pipe is None:
        info += ["closed", "fd=None", "closed"]
    else:
        if transport.is_closing():
            info.append("closing")
        writes = isinstance(transport, asyncio.WriteTransport)
        polled = transport._polled_events & (2 if writes else 1)
        is_open = transport._loop is not None and not transport._loop.is_closed()
        info += [f"fd={transport._fileno}", _POLLED[polled] if is_open else "open"]
        if writes and is_open:
            info.append(f"bufsize={transport._queued_size}")
    return f"<{' '.join(info)}>"


def extract_stack() -> traceback.StackSummary:
    """Return the stack of who called into C, for a handle's `_source_traceback`."""
    return format_helpers.extract_stack(sys._getframe(1))


def report_callback_error(loop: "Loop", handle: Any, exception: BaseException) -> None:
    """Tell the exception handler what a callback raised, as `asyncio.Handle._run` does."""
    context: dict[str, Any] = {
        "message": f"Exception in callback {_describe_call(handle, loop.get_debug())}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def _report_slow(loop: "Loop", what: Any, seconds: float) -> None:
    base_events.logger.warning(  # type: ignore[attr-defined]
        "Executing %s took %.3f seconds", what, seconds
    )


def report_slow_handle(loop: "Loop", handle: Any, seconds: float) -> None:
    """Log a callback that ran longer than `slow_callback_duration` in debug mode."""
    if seconds >= loop.slow_callback_duration:
        what = base_events._format_handle(handle)  # type: ignore[attr-defined]
        _report_slow(loop, what, seconds)


def report_slow_call(loop: "Loop", transport: "_Transport", method: str, seconds: float) -> None:
    """Log a protocol method that ran longer than `slow_callback_duration` in debug mode."""
    if seconds >= loop.slow_callback_duration:
        protocol = transport.get_protocol()
        _report_slow(loop, f"<{type(protocol).__qualname__}.{method}() of {transport!r}>", seconds)


def log_debug(message: str, subject: object) -> None:
    """Log one of asyncio's debug messages."""
    logger.debug(message, subject)


def log_connection(server: object, transport: "SocketTransport") -> None:
    """Log that a server accepted a connection."""
    peer = transport.get_extra_info("peername")
    logger.debug("%r got a new connection from %r: %r", server, peer, transport._sock)


def log_error(transport: "_Transport", message: str, exception: BaseException) -> None:
    """Log the OSError that ended a connection: it is nobody's bug, so debug mode only."""
    logger.debug("%r: %s", transport, message, exc_info=exception)


def log_hang_up(transport: object) -> None:
    """Log that the other end of a pipe was closed."""
    logger.info("%r was closed by peer", transport)


def warn_send_raised(transport: object) -> None:
    """Log that a program goes on writing to a connection that is gone."""
    if hasattr(transport, "_pipe"):
        logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
    else:
        logger.warning("socket.send() raised exception.")


def run_foreign_handle(handle: Any) -> None:
    """Run a handle that asyncio or a tool made, unless it was cancelled meanwhile."""
    if not handle._cancelled:
        handle._run()


def accept_connection(
    loop: "Loop",
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    listening: socket.socket,
    fd: int,
    address: Any,
    ssl_arguments: tuple[Any, ...],
    context: Context,
) -> None:
    """Take over an accepted descriptor and let asyncio's coroutine do the TLS handshake."""
    try:
        connection = socket.socket(listening.family, listening.type, listening.proto, fd)
    except BaseException:
        os.close(fd)
        raise
    connection.setblocking(False)
    accept = loop._accept_connection2(  # type: ignore[attr-defined]
        protocol_factory, connection, {"peername": address}, *ssl_arguments
    )
    loop.create_task(accept, context=context.copy())


async def connect_later(sock: socket.socket, address: Any) -> None:
    """Connect a unix socket whose peer's backlog is full: Linux has no event for room there."""
    while True:
        await asyncio.sleep(CONNECT_RETRY_DELAY)
        try:
            sock.connect(address)
        except BlockingIOError:
            continue
        return
