# SPDX-License-Identifier: MIT
"""Child processes, the same on each Python version: real pipes, and exit noticed by a pidfd.

No child watcher of asyncio's is used, so none need be set, and any thread's loop will do. Where
the kernel or a sandbox refuses pidfds, a thread waits for the child.
"""

import contextlib
import os
import signal
import subprocess
import threading
from asyncio import base_subprocess
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from hoop import _hoop

if TYPE_CHECKING:
    import asyncio

    from hoop._loop import Loop


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A child and its pipes. `asyncio.SubprocessTransport`."""

    _closed: bool
    _loop: "Loop"
    _pid: int
    _pipes: dict[int, Any]
    _proc: "subprocess.Popen[bytes] | None"
    _returncode: int | None
    _pidfd = -1

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    async def _connect_pipes(self, waiter: "asyncio.Future[None] | None") -> None:
        await super()._connect_pipes(waiter)
        if self._closed:  # while they were being connected: nobody else closes these
            for protocol in self._pipes.values():
                if protocol is not None:
                    protocol.pipe.close()

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
                os.kill(self._pid, signal)  # ours, not reaped yet

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
    protocol: "asyncio.SubprocessProtocol",
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
    waiter = loop.create_future()
    transport = SubprocessTransport(
        loop,
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        waiter=waiter,
        extra=extra,
        **kwargs,
    )
    transport._watch()
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
