# SPDX-License-Identifier: MIT
"""How a pipe is read and written without ever waiting, and without disturbing who shares it.

asyncio sets O_NONBLOCK. That flag belongs to the open file description, which standard input
and output share with the shell and with every other program of the job: they would fail with
EAGAIN from then on. So:

- a socket is left as it is, since each call can be told not to wait;
- a FIFO or terminal is opened once more through /proc, which gives a description of our own;
- where that is refused, it is read and written in blocking mode, when it is known to be ready;
- other character devices would be other devices if they were opened again, and so would a
  terminal's master side. They are seldom shared: here O_NONBLOCK is set, as in asyncio.

A child's pipe, which its `Popen` made, is nobody else's.
"""

import asyncio
import fcntl
import os
import stat
from asyncio import base_subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hoop import _hoop
    from hoop._loop import Loop

_SOCKET, _NONBLOCKING, _SHARED = range(3)  # enum pyhoop_pipe_access
_TERMINAL_MASTER = os.makedev(5, 2)


def _open_again(fd: int, direction: int) -> int | None:
    keeps = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT  # packet mode
    flags = direction | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | keeps
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:  # no /proc, somebody else's terminal, a FIFO nobody reads
        return None


def _own_descriptor(fd: int, status: os.stat_result, direction: int) -> tuple[int, int]:
    """Return a descriptor for the transport alone, and the access it allows."""
    mode = status.st_mode
    if stat.S_ISSOCK(mode):
        return os.dup(fd), _SOCKET
    if os.get_blocking(fd):
        if stat.S_ISCHR(mode) and (status.st_rdev == _TERMINAL_MASTER or not os.isatty(fd)):
            os.set_blocking(fd, False)
        else:
            own = _open_again(fd, direction)
            return (os.dup(fd), _SHARED) if own is None else (own, _NONBLOCKING)
    return os.dup(fd), _NONBLOCKING


def _connect(
    loop: "Loop",
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: "asyncio.Future[None] | None",
    extra: dict[str, Any] | None,
    direction: int,
    refusal: str,
) -> Any:
    fd = pipe.fileno()
    status = os.fstat(fd)
    mode = status.st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(refusal)
    is_reader = direction == os.O_RDONLY
    if isinstance(protocol, base_subprocess.WriteSubprocessPipeProto) and stat.S_ISFIFO(mode):
        os.set_blocking(fd, False)
        own, access = fd, _NONBLOCKING
    else:
        own, access = _own_descriptor(fd, status, direction)
    try:
        return loop._make_pipe_transport(
            pipe,
            own,
            is_reader,
            access,
            protocol,
            waiter,
            extra,
            # A terminal's readability is no sign that its other end is gone.
            hears_end=is_reader or not stat.S_ISCHR(mode),
        )
    except BaseException:
        if own != fd:
            os.close(own)
        raise


def connect_reader(
    loop: "Loop",
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: "asyncio.Future[None] | None" = None,
    extra: dict[str, Any] | None = None,
) -> "_hoop.ReadPipeTransport":
    """Make the transport of `loop.connect_read_pipe`."""
    refusal = "Pipe transport is for pipes/sockets only."
    transport: _hoop.ReadPipeTransport = _connect(
        loop, pipe, protocol, waiter, extra, os.O_RDONLY, refusal
    )
    return transport


def connect_writer(
    loop: "Loop",
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: "asyncio.Future[None] | None" = None,
    extra: dict[str, Any] | None = None,
) -> "_hoop.WritePipeTransport":
    """Make the transport of `loop.connect_write_pipe`."""
    refusal = "Pipe transport is only for pipes, sockets and character devices"
    transport: _hoop.WritePipeTransport = _connect(
        loop, pipe, protocol, waiter, extra, os.O_WRONLY, refusal
    )
    return transport
