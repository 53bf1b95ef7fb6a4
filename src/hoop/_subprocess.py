# SPDX-License-Identifier: MIT
"""Child processes, the same on each Python version: real pipes, and exit noticed by a pidfd.

No child watcher of asyncio's is used, so none need be set, and any thread's loop will do. Where
the kernel or a sandbox refuses pidfds, a thread waits for the child.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from asyncio import base_subprocess, transports
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from hoop import _hoop

if TYPE_CHECKING:
    from hoop._loop import Loop


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A child and its pipes. `asyncio.SubprocessTransport`.

    Starting it is not the base class's: its way takes a task and a future for each child, goes
    on after it was cancelled, and leaves pipes open then.
    """

    _closed: bool
    _loop: "Loop"
    _pending_calls: Any
    _pid: int

    def __init__(
        self,
        loop: "Loop",
        protocol: asyncio.SubprocessProtocol,
        extra: dict[str, Any] | None,
        **popen: Any,
    ) -> None:
        transports.SubprocessTransport.__init__(self, extra)
        self._closed = False
        self._finished = False
        self._loop = loop
        self._protocol = protocol
        self._pidfd = -1
        self._returncode: int | None = None
        self._exit_waiters: list[asyncio.Future[int]] = []
        self._proc: subprocess.Popen[bytes] | None = None
        self._pipes: dict[int, Any] = {}
        self._pending_calls = []
        try:
            self._proc = subprocess.Popen(**popen)
        except BaseException:
            self._closed = True
            raise
        self._pid = self._proc.pid
        self._extra: dict[str, Any]
        self._extra["subprocess"] = self._proc
        if loop.get_debug():
            args = popen["args"]
            program = args if isinstance(args, bytes | str) else args[0]
            logger.debug("process %r created: pid %s", program, self._pid)

    async def _connect(self) -> None:
        """Connect the pipes, then the protocol, whose `connection_made` has run on return."""
        process, loop = self._proc, self._loop
        assert process is not None
        streams = {0: process.stdin, 1: process.stdout, 2: process.stderr}
        files = {fd: file for fd, file in streams.items() if file is not None}
        self._pipes = dict.fromkeys(files)
        try:
            while files:
                fd = next(iter(files))
                await self._connect_pipe(fd, files.pop(fd))
        except BaseException:  # cancelled: the protocol will not hear of this child
            for file in files.values():
                file.close()
            raise
        loop.call_soon(self._protocol.connection_made, self)
        pending, self._pending_calls = self._pending_calls, None
        for callback, data in pending:
            loop.call_soon(callback, *data)
        await asyncio.sleep(0)

    async def _connect_pipe(self, fd: int, file: Any) -> None:
        if fd == 0:
            _, self._pipes[0] = await self._loop.connect_write_pipe(
                lambda: base_subprocess.WriteSubprocessPipeProto(self, 0), file
            )
        else:
            _, self._pipes[fd] = await self._loop.connect_read_pipe(
                lambda: base_subprocess.ReadSubprocessPipeProto(self, fd), file
            )

    async def _wait(self) -> int:
        """Wait until the child has exited, before Python 3.14 for the pipes' end, too."""
        if self._returncode is not None:
            return self._returncode
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._exit_waiters.append(waiter)
        return await waiter

    def _process_exited(self, returncode: int) -> None:
        super()._process_exited(returncode)
        if self._pending_calls is not None:  # never connected, so nothing else is to come
            for waiter in self._exit_waiters or ():
                if not waiter.done():
                    waiter.set_result(returncode)

    def _watch(self) -> None:
        """Have `_process_exited` called when the child has exited."""
        try:
            self._pidfd = _hoop.pidfd_open(self._pid)
        except ProcessLookupError:  # SIGCHLD is ignored: it is gone without a trace
            self._loop.call_soon(self._reap)
        except OSError:
            threading.Thread(
                target=self._wait_in_thread,
                args=(self._loop, self._pid),
                name=f"hoop-waitpid-{self._pid}",
                daemon=True,
            ).start()
        else:
            self._loop._add_reader(self._pidfd, self._reap)

    def _wait_in_thread(self, loop: "Loop", pid: int) -> None:
        """Wait for the child, but leave it to the loop's thread to reap it."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            loop.call_soon_threadsafe(self._reap)
        except RuntimeError:
            self._read_status()
            logger.warning("Loop %r that handles pid %r is closed", loop, pid)

    def _reap(self) -> None:
        if self._returncode is None:
            returncode = self._read_status()
            self._close_pidfd()
            self._process_exited(returncode)

    def _read_status(self) -> int:
        process = self._proc
        if process is not None and process.returncode is not None:
            return process.returncode  # close() or somebody else polled it
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            logger.warning(
                "child process pid %d exit status already read:  will report returncode 255",
                self._pid,
            )
            return 255
        return os.waitstatus_to_exitcode(status)

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            self._loop._remove_reader(pidfd)
            os.close(pidfd)

    def send_signal(self, signal: int) -> None:
        """Send a signal, unless the child has exited. Never hits another process."""
        self._check_proc()
        if self._returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            try:
                _hoop.pidfd_send_signal(self._pidfd, signal)
            except ProcessLookupError:
                raise
            except OSError:  # no pidfd, or none of this call in a sandbox
                assert self._proc is not None  # by _check_proc
                self._proc.send_signal(signal)  # looks first whether somebody has reaped it

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        super().__del__()
        self._close_pidfd()


async def spawn(
    loop: "Loop",
    protocol: asyncio.SubprocessProtocol,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: Any = None,
    **kwargs: Any,
) -> SubprocessTransport:
    """Start a child for `loop.subprocess_exec` and `subprocess_shell`."""
    transport = SubprocessTransport(
        loop,
        protocol,
        extra,
        args=args,
        shell=shell,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=bufsize,
        **kwargs,
    )
    transport._watch()
    try:
        await transport._connect()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
