# SPDX-License-Identifier: MIT
"""The loop class: the C base in front of asyncio's own selector loop.

What is hot is in C (`hoop._hoop.Loop`); the rest is inherited from the running Python's
asyncio, with that version's signatures and behaviour.
"""

import asyncio
import os
import selectors
import socket
from asyncio import sslproto, transports, unix_events
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from typing import Any, TypedDict, TypeVarTuple

from hoop import _hoop, _pipes, _subprocess

_Ts = TypeVarTuple("_Ts")
_STREAMS = os.environ.get("HOOP_STREAMS") != "0"
_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class LoopOptions(TypedDict, total=False):
    """The options of a loop, as keywords of whatever makes one."""

    name: str | None
    debug: bool | None
    slow_callback: float | None
    on_loop_created: Callable[["Loop"], object] | None
    on_loop_closed: Callable[["Loop"], object] | None
    poll_every_round: bool
    streams: bool


class _Selector(Mapping[int, selectors.SelectorKey]):
    """What asyncio's code and tools ask `loop._selector`: which descriptor waits for what."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop

    def get_map(self) -> Mapping[int, selectors.SelectorKey]:
        return self

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        events = self._loop._polled_events(fileobj)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return selectors.SelectorKey(fileobj, fd, events, None)

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self.get_key(fileobj)

    def __iter__(self) -> Iterator[int]:
        return iter(self._loop._polled_descriptors())

    def __len__(self) -> int:
        return len(self._loop._polled_descriptors())

    def close(self) -> None:
        """Nothing: the C core closes what it opened."""


class _FlowControlled(transports._FlowControlMixin):
    """A transport of ours as `loop.sendfile`'s fallback wants it: it insists on this base class."""

    def __init__(self, transport: _hoop.SocketTransport) -> None:
        super().__init__(None, transport._loop)  # type: ignore[arg-type]
        self._transport = transport
        self._protocol_paused = transport._protocol_paused
        this: Any = self
        this.get_protocol = transport.get_protocol
        this.is_closing = transport.is_closing
        this.is_reading = transport.is_reading
        this.pause_reading = transport.pause_reading
        this.resume_reading = transport.resume_reading
        this.set_protocol = transport.set_protocol
        this.write = transport.write


# Named at import: tests and tools replace asyncio.SelectorEventLoop.
class Loop(_hoop.Loop, unix_events._UnixSelectorEventLoop):
    """An asyncio event loop in C. Counterpart of `asyncio.SelectorEventLoop`.

    Options, all by keyword:

    - `name`: what the loop is called in its repr.
    - `debug`: debug mode on or off; None leaves it to the environment, as asyncio does.
    - `slow_callback`: seconds from which debug mode logs a callback as slow
      (`slow_callback_duration`, 0.1).
    - `on_loop_created`, `on_loop_closed`: called with the loop when it is ready and when it
      has been closed. What they raise goes to the loop's exception handler.
    - `poll_every_round`: ask the kernel for events in every iteration, as asyncio does, not
      only every few microseconds when callbacks keep the loop busy.
    - `streams`: False leaves `asyncio.StreamReader` as it is, without acceleration; so does
      HOOP_STREAMS=0 in the environment when hoop is imported.
    """

    # What asyncio's __init__ assigns. As slots they leave the instance without a dictionary,
    # which every look-up of a method would have to search first.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_current_handle",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_old_agen_hooks",
        "_on_loop_closed",
        "_selector",
        "_signal_handlers",
        "_ssock",
        "_timer_cancelled_count",
        "_transports",
        "_unix_server_sockets",
        "_watcher",
        "name",
        "slow_callback_duration",
    )

    def __init__(
        self,
        *,
        name: str | None = None,
        debug: bool | None = None,
        slow_callback: float | None = None,
        on_loop_created: Callable[["Loop"], object] | None = None,
        on_loop_closed: Callable[["Loop"], object] | None = None,
        poll_every_round: bool = False,
        streams: bool = True,
    ) -> None:
        super().__init__(_Selector(self))  # type: ignore[arg-type]
        self.name = name
        self._on_loop_closed = on_loop_closed
        if debug is not None:
            self.set_debug(debug)
        if slow_callback is not None:
            self.slow_callback_duration = slow_callback
        if poll_every_round:
            self._poll_every_round = True
        if not (streams and _STREAMS):
            self._accelerates_streams = False
        if on_loop_created is not None:
            self._call_hook("on_loop_created", on_loop_created)

    def __repr__(self) -> str:
        name = f" name={self.name!r}" if getattr(self, "name", None) is not None else ""
        return (
            f"<{type(self).__name__}{name} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def __del__(self) -> None:
        if hasattr(self, "_default_executor"):
            super().__del__()
        else:  # __init__ refused its arguments: nothing to warn of
            self._closed = True

    def close(self) -> None:
        """Close the loop and all it opened; nothing to do if it is closed. `loop.close`.

        Raises RuntimeError while the loop runs.
        """
        was_closed = self.is_closed()
        super().close()
        hook = None if was_closed else getattr(self, "_on_loop_closed", None)
        if hook is not None:
            self._call_hook("on_loop_closed", hook)

    def _call_hook(self, name: str, hook: Callable[["Loop"], object]) -> None:
        try:
            hook(self)
        except Exception as exception:
            self.call_exception_handler(
                {"message": f"{name} hook failed", "exception": exception, "hook": hook}
            )

    # The socket pair that signal.set_wakeup_fd needs is made by the first signal handler.

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None
        self._internal_fds += 1

    def _close_self_pipe(self) -> None:
        ssock, csock = getattr(self, "_ssock", None), getattr(self, "_csock", None)
        if ssock is not None and csock is not None:
            if ssock.fileno() >= 0:  # else the collector has closed it
                self._remove_reader(ssock)
            self._ssock = self._csock = None
            ssock.close()
            csock.close()
        self._internal_fds = 0

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call back on a Unix signal, in the main thread. `loop.add_signal_handler`."""
        if self._csock is None and not self.is_closed():
            super()._make_self_pipe()  # type: ignore[misc]
            self._internal_fds -= 1  # counted by our own _make_self_pipe already
        super().add_signal_handler(sig, callback, *args)

    async def _create_connection_transport(
        self,
        sock: Any,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Close the socket if the factory raises: asyncio leaves that to the collector."""

        def make_protocol() -> asyncio.BaseProtocol:
            try:
                return protocol_factory()
            except BaseException:
                sock.close()
                raise

        pair: tuple[asyncio.Transport, asyncio.BaseProtocol]
        pair = await super()._create_connection_transport(  # type: ignore[misc]
            sock, make_protocol, *args, **kwargs
        )
        return pair

    # Numeric addresses need no thread: nobody has to be asked.

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Resolve a host as `socket.getaddrinfo` does. `loop.getaddrinfo`."""
        found = self._numeric_addrinfo(host, port, family, type, proto, flags)
        if found is None:
            found = await super().getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Name an address as `socket.getnameinfo` does. `loop.getnameinfo`."""
        if isinstance(flags, int) and flags & _NUMERIC_NAME == _NUMERIC_NAME:
            self._check_closed()
            return socket.getnameinfo(sockaddr, flags)
        return await super().getnameinfo(sockaddr, flags)

    _make_read_pipe_transport = _pipes.connect_reader
    _make_write_pipe_transport = _pipes.connect_writer
    _make_subprocess_transport = _subprocess.spawn

    # Where asyncio's own code makes its socket transport by name, or reaches into it.

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,  # type: ignore[arg-type]
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,  # type: ignore[arg-type]
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(
            rawsock, ssl_protocol, extra=extra, server=server, context=context
        )
        transport: asyncio.Transport = ssl_protocol._app_transport
        return transport

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, _hoop.SocketTransport):
            sent: int = await super()._sendfile_native(  # type: ignore[misc]
                transp, file, offset, count
            )
            return sent
        was_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        transp._lend_descriptor()
        try:
            return await self.sock_sendfile(
                transp._sock,  # type: ignore[arg-type]
                file,
                offset,
                count,
                fallback=False,
            )
        finally:
            transp._take_descriptor_back()
            transp._reset_empty_waiter()
            if was_reading:
                transp.resume_reading()

    async def _sendfile_fallback(
        self, transp: Any, file: Any, offset: int, count: int | None
    ) -> int:
        if isinstance(transp, _hoop.SocketTransport):
            transp = _FlowControlled(transp)
        sent: int = await super()._sendfile_fallback(  # type: ignore[misc]
            transp, file, offset, count
        )
        return sent
