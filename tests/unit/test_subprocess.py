# SPDX-License-Identifier: MIT
"""create_subprocess_exec and create_subprocess_shell, with real children."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import inspect
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from typing import Any

import loopkit
import pytest

exec_ = asyncio.create_subprocess_exec
shell = asyncio.create_subprocess_shell
as_root = pytest.mark.skipif(os.getuid() != 0, reason="changes the user")


@pytest.fixture(autouse=True)
def no_children_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):  # no zombie, nothing running
        os.waitpid(-1, os.WNOHANG)


async def output_of(*command: str, **options: Any) -> bytes:
    if len(command) == 1:
        process = await shell(command[0], stdout=PIPE, **options)
    else:
        process = await exec_(*command, stdout=PIPE, **options)
    out, _ = await process.communicate()
    return out


@contextlib.contextmanager
def held() -> Iterator[tuple[int, Any]]:
    """Standard input for a `cat`, and a function that has it exit behind the loop's back."""
    read_fd, write_fd = os.pipe()

    def release(pid: int) -> None:
        os.close(write_fd)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    try:
        yield read_fd, release
    finally:
        os.close(read_fd)


async def test_exit_status(loop):
    for command, status in (("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)):
        process = await shell(command)
        assert await process.wait() == status
        assert process.returncode == status


async def test_wait_from_several_tasks(loop):
    process = await exec_("cat", stdin=PIPE)
    waits = [asyncio.ensure_future(process.wait()) for _ in range(4)]
    await asyncio.sleep(0)
    waits[0].cancel()
    process.stdin.close()
    assert await asyncio.gather(*waits[1:]) == [0, 0, 0]
    assert await process.wait() == 0


async def test_output_streams(loop):
    process = await shell("echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
    assert await process.communicate() == (b"out\n", b"err\n")
    process = await shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    assert await process.communicate() == (b"out\nerr\n", None)
    assert await output_of("cat", "-", stdin=DEVNULL) == b""


async def test_files_and_sockets_as_streams(loop):
    with tempfile.TemporaryFile() as file:
        file.write(b"content")
        file.seek(0)
        assert await output_of("cat", "-", stdin=file) == b"content"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await exec_("echo", "hello", stdout=theirs)
        await process.wait()
        assert ours.recv(100) == b"hello\n"


async def test_standard_input_is_a_real_pipe(loop):
    """A socket could not be opened by name."""
    process = await exec_("cat", "/dev/stdin", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"data") == (b"data", None)


async def test_communicate_with_megabytes(loop):
    data = os.urandom(10_000_000)
    process = await exec_("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(data) == (data, None)
    assert process.returncode == 0


async def test_child_that_closes_its_input_early(loop):
    process = await shell("exec <&-; echo done", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"x" * 1_000_000) == (b"done\n", None)
    process = await shell("exec <&-; echo done", stdin=PIPE, stdout=PIPE)
    assert await process.stdout.readline() == b"done\n"
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(b"x" * 100_000)
            await process.stdin.drain()
    await process.communicate()


async def test_long_lines(loop):
    process = await shell("head -c 5000 /dev/zero; echo", stdout=PIPE, limit=1000)
    with pytest.raises(ValueError, match="limit"):
        await process.stdout.readline()
    await process.communicate()


async def test_large_arguments_and_environment(loop):
    argument, value = "a" * 100_000, "v" * 100_000
    code = "import os, sys; print(len(sys.argv[1]), len(os.environ['X']))"
    out = await output_of(sys.executable, "-Sc", code, argument, env={"X": value})
    assert out == b"100000 100000\n"


# ---- keywords ----


@pytest.mark.parametrize(
    "name, value",
    [
        ("universal_newlines", True),
        ("text", True),
        ("encoding", "utf-8"),
        ("errors", "strict"),
        ("bufsize", 1),
    ],
)
async def test_refused_keywords(loop, name, value):
    with pytest.raises(ValueError):
        await exec_("true", **{name: value})
    with pytest.raises(ValueError):
        await shell("true", **{name: value})


async def test_shell_keyword_and_types_of_commands(loop):
    with pytest.raises(ValueError, match="shell must be False"):
        await exec_("true", shell=True)
    with pytest.raises(ValueError, match="shell must be True"):
        await shell("true", shell=False)
    with pytest.raises(ValueError, match="cmd must be a string"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, 123)
    with pytest.raises(TypeError):
        await exec_(123)


# Each keyword of Popen, a value, a command to print what came of it, and what that prints.
KEYWORDS: dict[str, tuple[Any, str, str]] = {
    "executable": ("/bin/sh", "echo yes", "yes"),
    "preexec_fn": (lambda: os.environ.update(X="y") or os.nice(3), "nice", None),  # type: ignore[func-returns-value, dict-item]
    "close_fds": (False, "echo yes", "yes"),
    "cwd": ("/usr", "pwd", "/usr"),
    "env": ({"NAME": "value", "PATH": os.environ["PATH"]}, "echo $NAME", "value"),
    "startupinfo": (None, "echo yes", "yes"),
    "creationflags": (0, "echo yes", "yes"),
    "restore_signals": (False, "echo yes", "yes"),
    "start_new_session": (True, "cut -d' ' -f6 /proc/$$/stat; echo $$", None),  # type: ignore[dict-item]
    "pass_fds": ((), "echo yes", "yes"),
    "user": ("nobody", "id -un", "nobody"),
    "group": ("nogroup", "id -gn", "nogroup"),
    "extra_groups": (["nogroup"], "id -Gn", None),  # type: ignore[dict-item]
    "umask": (0o027, "umask", "0027"),
    "pipesize": (8192, "echo yes", "yes"),
    "process_group": (0, "cut -d' ' -f5 /proc/$$/stat; echo $$", None),  # type: ignore[dict-item]
}
ASYNCIOS_OWN = {"args", "stdin", "stdout", "stderr", "shell", "bufsize"}
REFUSED = {"universal_newlines", "text", "encoding", "errors"}


def test_every_keyword_of_popen_is_known_here():
    assert set(inspect.signature(subprocess.Popen).parameters) == (
        set(KEYWORDS) | ASYNCIOS_OWN | REFUSED
    )


@as_root
@pytest.mark.parametrize("how", ["exec", "shell"])
@pytest.mark.parametrize("name", KEYWORDS)
async def test_keyword(loop, name, how):
    value, command, expected = KEYWORDS[name]
    options = {name: value}
    if how == "shell":
        out = await output_of(command, **options)
    else:
        out = await output_of("/bin/sh", "-c", command, **options)
    lines = out.decode().split()
    if name in ("start_new_session", "process_group"):
        assert lines[0] == lines[1]
    elif name == "extra_groups":
        assert lines[-1] == "nogroup"
    elif name == "preexec_fn":
        assert lines == [str(os.nice(0) + 3)]
    else:
        assert out.decode().strip() == expected


async def test_pass_fds_and_close_fds(loop):
    read_fd, write_fd = os.pipe()
    os.set_inheritable(write_fd, True)
    command = f"[ -e /proc/$$/fd/{write_fd} ] && echo open || echo closed"
    assert await output_of(command) == b"closed\n"
    assert await output_of(command, close_fds=False) == b"open\n"
    assert await output_of(command, pass_fds=[write_fd]) == b"open\n"
    os.close(read_fd)
    os.close(write_fd)


async def test_child_has_no_descriptor_of_the_loop(loop):
    """But the three streams and what `ls` opens."""
    out = await output_of("ls", "/proc/self/fd", stdin=PIPE, stderr=PIPE)
    assert out.split() == [b"0", b"1", b"2", b"3"]


# ---- failing to start ----


async def test_failed_exec_leaves_nothing(loop):
    before = loopkit.open_fds()
    with pytest.raises(FileNotFoundError):
        await exec_("/no/such/program", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    with tempfile.NamedTemporaryFile() as file, pytest.raises(PermissionError):
        await exec_(file.name, stdin=PIPE, stdout=PIPE)
    with pytest.raises(FileNotFoundError):
        await exec_("true", cwd="/no/such/folder")
    with pytest.raises(subprocess.SubprocessError):
        await exec_("true", preexec_fn=lambda: 1 / 0)
    gc.collect()
    assert loopkit.open_fds() == before


async def test_connection_made_comes_first_and_connection_lost_last(loop):
    calls = []

    class Recorder(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.lost = loop.create_future()

        def connection_made(self, transport: Any) -> None:
            calls.append("made")

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            calls.append(f"data {fd} {data!r}")

        def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
            calls.append(f"pipe lost {fd} {error}")

        def process_exited(self) -> None:
            calls.append("exited")

        def connection_lost(self, error: Exception | None) -> None:
            calls.append(f"lost {error}")
            self.lost.set_result(None)

    transport, protocol = await loop.subprocess_exec(Recorder, "echo", "x", stdin=None, stderr=None)
    await protocol.lost
    assert calls[0] == "made" and calls[-1] == "lost None"
    assert sorted(calls[1:-1]) == ["data 1 b'x\\n'", "exited", "pipe lost 1 None"]
    assert transport.get_returncode() == 0
    transport.close()


# ---- signals ----


async def test_signals(loop):
    for send, status in (
        (lambda p: p.send_signal(signal.SIGUSR1), -signal.SIGUSR1),
        (lambda p: p.terminate(), -signal.SIGTERM),
        (lambda p: p.kill(), -signal.SIGKILL),
    ):
        process = await exec_("sleep", "60")
        send(process)
        assert await process.wait() == status
        await asyncio.sleep(0)
        with pytest.raises(ProcessLookupError):
            send(process)


@pytest.mark.stock_fails("reads the status itself when it looks whether to send", before=(3, 13))
async def test_signal_after_exit_before_it_was_noticed(loop, caplog):
    with held() as (stdin, release):
        process = await exec_("cat", stdin=stdin)
        release(process.pid)
    process.send_signal(signal.SIGTERM)
    process.kill()
    assert await process.wait() == 0
    assert not caplog.records


@pytest.mark.stock_fails("sends to a number that may be another process's by now", before=(3, 14))
async def test_signal_after_exit_never_reaches_a_recycled_pid(loop, monkeypatch):
    """The child has exited and was reaped, but a grandchild keeps its output open."""
    process = await shell("sleep 60 & echo $!", stdout=PIPE)
    grandchild = int(await process.stdout.readline())
    while process.returncode is None:
        await asyncio.sleep(0.001)

    def forbidden(pid: int, number: int) -> None:
        raise AssertionError(f"signal {number} sent to {pid}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", forbidden)
        process.kill()
    os.kill(grandchild, signal.SIGKILL)
    await process.communicate()


async def test_signals_racing_with_exits(loop):
    async def one() -> None:
        process = await exec_("true")
        while process.returncode is None:
            process.send_signal(0)
            await asyncio.sleep(0)
        await process.wait()

    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(10)))


# ---- how the exit is noticed ----


@pytest.mark.stock_fails("its thread may be faster", before=(3, 12))
async def test_status_read_by_somebody_else(loop, caplog):
    with held() as (stdin, release):
        process = await exec_("cat", stdin=stdin)
        pid = process.pid
        release(pid)
    os.waitpid(pid, 0)
    assert await process.wait() == 255
    (message,) = (r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert f"child process pid {pid}" in message
    assert message.endswith("will report returncode 255")


@pytest.mark.stock_fails("opens a descriptor of a process that is gone")
async def test_children_that_nobody_may_wait_for(loop, caplog):
    """With SIGCHLD ignored the kernel throws the status away."""
    saved = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        for _ in range(5):
            process = await exec_("true")
            assert await process.wait() == 255
    finally:
        signal.signal(signal.SIGCHLD, saved)


@pytest.mark.stock_fails("loses the status that close() has read", before=(3, 16))
async def test_close_after_exit_before_it_was_noticed(loop, caplog):
    with held() as (stdin, release):
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "cat", stdin=stdin, stdout=None, stderr=None
        )
        release(transport.get_pid())
    transport.close()
    assert await transport._wait() == 0
    await asyncio.sleep(0)
    assert not caplog.records


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_without_pidfds_a_thread_waits(loop_factory, loop_name, error, monkeypatch):
    if loop_name == "asyncio":
        pytest.skip("hoop's own fallback")
    from hoop import _hoop, _subprocess

    class Without:
        pidfd_send_signal = _hoop.pidfd_send_signal

        @staticmethod
        def pidfd_open(pid: int) -> int:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(_subprocess, "_hoop", Without)

    async def main() -> None:
        process = await shell("exit 5")
        assert await process.wait() == 5
        process = await exec_("sleep", "60")
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        process = await exec_("cat", stdin=PIPE)
        os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL

    loop_factory().run_until_complete(main())
    for thread in threading.enumerate():
        if thread.name.startswith("hoop-waitpid"):
            thread.join()


def test_without_pidfds_no_signal_reaches_a_number_that_is_free(
    loop_factory, loop_name, monkeypatch
):
    if loop_name == "asyncio":
        pytest.skip("hoop's own fallback")
    from hoop import _subprocess

    def refuse(*args: int) -> int:
        raise PermissionError

    monkeypatch.setattr(_subprocess._hoop, "pidfd_open", refuse)
    killed: list[tuple[int, int]] = []

    async def main() -> None:
        process = await exec_("sleep", "60")
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process._transport.get_extra_info("subprocess").poll()
        monkeypatch.setattr(os, "kill", lambda *args: killed.append(args))
        process.terminate()
        assert await process.wait() == -signal.SIGKILL

    loop_factory().run_until_complete(main())
    assert killed == []


def test_without_pidfds_and_the_loop_closed(loop_factory, loop_name, monkeypatch, caplog):
    if loop_name == "asyncio":
        pytest.skip("hoop's own fallback")
    from hoop import _subprocess

    def refuse(pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(_subprocess._hoop, "pidfd_open", refuse)
    loop = loop_factory()
    process = loop.run_until_complete(exec_("sleep", "60"))
    (thread,) = (t for t in threading.enumerate() if t.name.startswith("hoop-waitpid"))
    loop.close()
    os.kill(process.pid, signal.SIGKILL)
    thread.join()
    assert "that handles pid" in caplog.records[-1].message
    process._transport._proc.returncode = 0  # nothing more to warn of
    process._transport._closed = True


def test_loop_of_another_thread(loop_factory):
    results = []

    def body() -> None:
        loop = loop_factory()
        results.append(loop.run_until_complete(output_of("echo", "x")))
        results.append(loop.run_until_complete(asyncio.wait_for(output_of("exit 3"), 30)))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert results == [b"x\n", b""]


@pytest.mark.stock_fails("leaks the descriptor of the process, and raises on some versions")
def test_loop_closed_while_a_child_runs(loop_factory, loop_name):
    loop = loop_factory()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "60", stdin=None, stdout=None, stderr=None
        )
    )
    pid = transport.get_pid()
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
        texts = [str(w.message) for w in caught]
        caught.clear()  # it holds the transport
        gc.collect()
    assert any(text.startswith("unclosed transport <Sub") for text in texts)
    with contextlib.suppress(ChildProcessError):  # Popen's finalizer was faster
        os.waitpid(pid, 0)
    subprocess._cleanup()  # type: ignore[attr-defined]


# ---- many, cancelled, abandoned ----


async def test_fifty_at_a_time(loop):
    async def one(number: int) -> None:
        assert await output_of("echo", str(number)) == b"%d\n" % number

    await asyncio.gather(*(one(i) for i in range(50)))


@pytest.mark.timeout(120)
async def test_two_thousand_children_leave_nothing(loop):
    each = 10 if "HOOP_SANITIZE" in os.environ else 100

    async def some(count: int) -> None:
        for _ in range(count):
            process = await exec_("/bin/true")
            assert await process.wait() == 0

    await some(1)
    descriptors, threads = len(loopkit.open_fds()), threading.active_count()
    await asyncio.gather(*(some(each) for _ in range(20)))
    assert len(loopkit.open_fds()) == descriptors
    assert threading.active_count() <= threads


async def test_cancelled_while_starting(loop):
    before = loopkit.open_fds()
    for rounds in range(6):
        task = asyncio.ensure_future(exec_("sleep", "60", stdin=PIPE, stdout=PIPE))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            continue
        process.kill()
        await process.communicate()
    await settled(lambda: loopkit.open_fds() == before)


async def settled(condition: Any) -> None:
    """Let the loop run until what is on its way has arrived."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not settle")


async def test_close_while_the_child_lives(loop):
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "60")
    pid = transport.get_pid()
    transport.close()
    assert transport.is_closing()
    assert await transport._wait() == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    await asyncio.sleep(0)


async def test_grandchild_outlives_the_child(loop):
    """communicate() ends with the output, not with the child."""
    process = await shell("(sleep 0.05; echo late) & echo early", stdout=PIPE)
    assert await process.communicate() == (b"early\nlate\n", None)
    assert process.returncode == 0
