# SPDX-License-Identifier: MIT
"""connect_read_pipe and connect_write_pipe."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import pty
import socket
import subprocess
import sys
import tempfile
import termios
import tty
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


class Reader(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: BaseException | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.wanted = 0
        self.arrived = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.arrived.set()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.error = error
        self.lost.set_result(None)

    async def receive(self, size: int) -> bytes:
        while len(self.data) < size:
            self.arrived.clear()
            await self.arrived.wait()
        return bytes(self.data)


class Writer(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: BaseException | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.resumed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")
        self.resumed.set()

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.error = error
        self.lost.set_result(None)


def nonblocking(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def open_end(fd: int, mode: str, **options: Any) -> Any:
    return open(fd, mode, 0, **options)


def make_ends(kind: str) -> tuple[Any, Any]:
    """A reading and a writing end, as file objects."""
    if kind == "pipe":
        read_fd, write_fd = os.pipe()
    elif kind == "fifo":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fifo")
            os.mkfifo(path)
            read_fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            write_fd = os.open(path, os.O_WRONLY)
        os.set_blocking(read_fd, True)
    elif kind == "socket":
        return socket.socketpair()
    else:
        master, slave = pty.openpty()
        tty.setraw(slave)
        read_fd, write_fd = (slave, master) if kind == "terminal-reader" else (master, slave)
    return open_end(read_fd, "rb"), open_end(write_fd, "wb")


KINDS = ["pipe", "fifo", "socket", "terminal-reader", "terminal-writer"]


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    with contextlib.ExitStack() as stack:
        pair = make_ends(request.param)
        for end in pair:
            stack.callback(end.close)
        yield pair


@pytest.fixture
def pipe() -> Iterator[tuple[Any, Any]]:
    read_file, write_file = make_ends("pipe")
    with read_file, write_file:
        yield read_file, write_file


async def test_data_goes_through_every_kind_of_end(loop, ends):
    transport, reader = await loop.connect_read_pipe(Reader, ends[0])
    out, writer = await loop.connect_write_pipe(Writer, ends[1])
    assert transport.get_extra_info("pipe") is ends[0]
    assert out.get_extra_info("pipe") is ends[1]
    assert transport.get_extra_info("nothing", 5) == 5
    assert isinstance(transport, asyncio.ReadTransport)
    assert isinstance(out, asyncio.WriteTransport)
    data = os.urandom(400_000)
    out.write(data[:3])
    out.writelines([data[3:10], memoryview(data)[10:]])
    assert await reader.receive(len(data)) == data
    assert out.get_write_buffer_size() == 0
    out.close()
    transport.close()
    await asyncio.gather(reader.lost, writer.lost)
    assert reader.error is writer.error is None
    assert ends[0].fileno() == -1 if isinstance(ends[0], socket.socket) else ends[0].closed
    assert repr(out).endswith(" closed fd=None closed>") or "closed" in repr(out)


async def test_end_of_file(loop, pipe):
    read_file, write_file = pipe
    transport, reader = await loop.connect_read_pipe(Reader, read_file)
    write_file.write(b"last words")
    write_file.close()
    await reader.lost
    assert reader.data == b"last words"
    assert reader.calls == ["made", "eof", "lost"]
    assert reader.error is None
    assert transport.is_closing() and read_file.closed
    transport.close()


async def test_eof_received_that_raises_is_reported_and_the_pipe_closed(loop, pipe, errors):
    class Raises(Reader):
        def eof_received(self) -> None:
            raise ZeroDivisionError

    _, reader = await loop.connect_read_pipe(Raises, pipe[0])
    pipe[1].close()
    await reader.lost
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)


async def test_data_received_that_raises_is_reported_and_the_pipe_stays_open(loop, pipe, errors):
    class Raises(Reader):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    _, reader = await loop.connect_read_pipe(Raises, pipe[0])
    pipe[1].write(b"bad")
    await reader.receive(3)
    pipe[1].write(b"good")
    await reader.receive(7)
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)
    pipe[1].close()
    await reader.lost


async def test_pause_and_resume_reading(loop, pipe):
    transport, reader = await loop.connect_read_pipe(Reader, pipe[0])
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    pipe[1].write(b"x")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reader.data
    transport.resume_reading()
    transport.resume_reading()
    assert await reader.receive(1) == b"x"
    transport.close()
    assert not transport.is_reading()
    await reader.lost


async def test_protocol_can_be_replaced(loop, pipe):
    transport, first = await loop.connect_read_pipe(Reader, pipe[0])
    assert transport.get_protocol() is first
    second = Reader()
    transport.set_protocol(second)
    pipe[1].write(b"x")
    assert await second.receive(1) == b"x"
    transport.close()
    await second.lost


async def test_write_buffer_and_flow_control(loop, pipe):
    transport, writer = await loop.connect_write_pipe(Writer, pipe[1])
    transport.set_write_buffer_limits(high=100_000, low=50_000)
    assert transport.get_write_buffer_limits() == (50_000, 100_000)
    transport.write(b"a" * 300_000)
    assert transport.get_write_buffer_size() == 300_000 - 65536
    assert writer.calls == ["made", "pause"]
    reader_transport, reader = await loop.connect_read_pipe(Reader, pipe[0])
    await writer.resumed.wait()
    assert transport.can_write_eof()
    transport.write(b"b")
    transport.write_eof()
    assert transport.is_closing()
    transport.write(b"dropped")
    await asyncio.gather(reader.lost, writer.lost)
    assert bytes(reader.data) == b"a" * 300_000 + b"b"
    assert reader_transport.is_closing()


async def test_abort_drops_what_is_unsent(loop, pipe):
    transport, writer = await loop.connect_write_pipe(Writer, pipe[1])
    transport.write(b"a" * 300_000)
    transport.abort()
    await writer.lost
    assert writer.error is None
    assert len(pipe[0].read(400_000)) == 65536


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_reader_that_goes_away_closes_an_idle_writer(loop, kind):
    read_end, write_end = make_ends(kind)
    transport, writer = await loop.connect_write_pipe(Writer, write_end)
    read_end.close()
    await writer.lost
    assert writer.error is None
    assert transport.is_closing()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_reader_that_goes_away_breaks_a_writer_with_data(loop, kind):
    read_end, write_end = make_ends(kind)
    transport, writer = await loop.connect_write_pipe(Writer, write_end)
    transport.write(b"a" * 3_000_000)
    read_end.close()
    await writer.lost
    assert isinstance(writer.error, (BrokenPipeError, ConnectionResetError))


async def test_write_to_a_broken_pipe_and_five_more(loop, pipe, caplog):
    transport, writer = await loop.connect_write_pipe(Writer, pipe[1])
    pipe[0].close()
    transport.write(b"x")
    assert transport.is_closing()
    for _ in range(5):
        transport.write(b"x")
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "pipe closed by peer or os.write(pipe, data) raised exception."
    ]
    await writer.lost
    assert isinstance(writer.error, BrokenPipeError)


async def test_terminal_that_hangs_up(loop):
    read_file, write_file = make_ends("terminal-writer")  # reads the master side
    _, reader = await loop.connect_read_pipe(Reader, read_file)
    write_file.close()
    await reader.lost
    assert isinstance(reader.error, OSError)  # EIO: not reported


async def test_regular_files_are_refused(loop):
    with tempfile.TemporaryFile() as file:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            await loop.connect_read_pipe(Reader, file)
        with pytest.raises(
            ValueError,
            match=r"^Pipe transport is only for pipes, sockets and character devices$",
        ):
            await loop.connect_write_pipe(Writer, file)


async def test_null_device_takes_everything(loop):
    with open("/dev/null", "wb", 0) as file:
        transport, writer = await loop.connect_write_pipe(Writer, file)
        transport.write(b"x" * 1_000_000)
        transport.close()
        await writer.lost
        assert writer.error is None


async def test_unclosed_transport_warns(loop, pipe):
    transport, reader = await loop.connect_read_pipe(Reader, pipe[0])
    await asyncio.sleep(0)
    transport.pause_reading()
    reader.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert str(caught[0].message).startswith("unclosed transport <")
    assert pipe[0].closed


async def test_debug_mode_logs_and_reprs(loop, pipe, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    transport, reader = await loop.connect_read_pipe(Reader, pipe[0])
    out, writer = await loop.connect_write_pipe(Writer, pipe[1])
    await asyncio.sleep(0)
    assert repr(transport).endswith(" polling>")
    assert repr(out).endswith(" idle bufsize=0>")
    transport.pause_reading()
    transport.resume_reading()
    out.close()
    assert " closing " in repr(out)
    await asyncio.gather(reader.lost, writer.lost)
    text = "\n".join(r.message for r in caplog.records)
    for what in ("pauses reading", "resumes reading", "was closed by peer", "connected: (<"):
        assert what in text


async def test_invalid_data_is_refused(loop, pipe):
    transport, writer = await loop.connect_write_pipe(Writer, pipe[1])
    with pytest.raises((TypeError, AssertionError)):
        transport.write("text")
    transport.close()
    await writer.lost


async def test_both_ways_on_one_terminal_descriptor(loop):
    """A program that drives a terminal reads and writes its master side."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    read_file, write_file = open_end(master, "rb"), open_end(master, "wb", closefd=False)
    transport, reader = await loop.connect_read_pipe(Reader, read_file)
    out, writer = await loop.connect_write_pipe(Writer, write_file)
    os.write(slave, b"up")
    assert await reader.receive(2) == b"up"
    out.write(b"down")
    assert os.read(slave, 10) == b"down"
    out.close()
    await writer.lost
    transport.close()
    await reader.lost
    os.close(slave)


async def test_reader_callback_beside_a_write_transport(loop):
    """add_reader on the descriptor that a write transport has is the program's own business."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    write_file = open_end(master, "wb")
    out, writer = await loop.connect_write_pipe(Writer, write_file)
    readable = loop.create_future()
    loop.add_reader(master, lambda: readable.done() or readable.set_result(os.read(master, 10)))
    os.write(slave, b"up")
    assert await readable == b"up"
    loop.remove_reader(master)
    out.close()
    await writer.lost
    os.close(slave)


# ---- O_NONBLOCK belongs to everybody who shares the description ----


@pytest.mark.stock_fails("sets O_NONBLOCK on a description that others share")
@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket", "terminal-reader"])
@pytest.mark.parametrize("has_proc", [True, False])
async def test_flag_of_shared_description_stays(loop, kind, has_proc, monkeypatch):
    if not has_proc:

        def refuse(path: Any, *args: Any) -> int:
            raise FileNotFoundError(path)

        monkeypatch.setattr(os, "open", refuse)
        if kind == "fifo":
            pytest.skip("made by os.open")
    read_end, write_end = make_ends(kind)
    if kind == "terminal-reader":  # the master side is not one of the shared kinds
        read_end, write_end, master = read_end, open_end(os.dup(read_end.fileno()), "wb"), write_end
    else:
        master = None
    shared = [os.dup(read_end.fileno()), os.dup(write_end.fileno())]
    transport, reader = await loop.connect_read_pipe(Reader, read_end)
    out, writer = await loop.connect_write_pipe(Writer, write_end)
    assert not any(map(nonblocking, shared))
    data = b"0123456789" * 30_000
    if master is None:
        out.write(data)
        assert await reader.receive(len(data)) == data
    else:
        out.write(b"shown")
        assert os.read(master.fileno(), 10) == b"shown"
        os.write(master.fileno(), b"typed")
        assert await reader.receive(5) == b"typed"
    assert not any(map(nonblocking, shared))
    out.close()
    transport.close()
    await asyncio.gather(reader.lost, writer.lost)
    assert not any(map(nonblocking, shared))
    for fd in shared:
        os.close(fd)
    if master is not None:
        master.close()


@pytest.mark.stock_fails("sets O_NONBLOCK on a description that others share")
@pytest.mark.parametrize("has_proc", [True, False])
async def test_end_of_file_and_broken_pipe_on_a_shared_description(loop, has_proc, monkeypatch):
    if not has_proc:
        monkeypatch.setattr(os, "open", lambda *args: (_ for _ in ()).throw(OSError))
    read_file, write_file = make_ends("pipe")
    shared = os.dup(read_file.fileno())
    _, reader = await loop.connect_read_pipe(Reader, read_file)
    write_file.close()
    await reader.lost
    assert reader.calls == ["made", "eof", "lost"]
    os.close(shared)

    read_file, write_file = make_ends("pipe")
    shared = os.dup(write_file.fileno())
    out, writer = await loop.connect_write_pipe(Writer, write_file)
    out.write(b"x" * 200_000)
    read_file.close()
    await writer.lost
    assert isinstance(writer.error, BrokenPipeError)
    os.close(shared)


PROGRAM = """
import asyncio, sys

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    while line := await reader.readline():
        writer.write(b"<" + line.strip() + b">\\n")
        await writer.drain()

loop = factory()
loop.run_until_complete(main())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""


def program(loop_name: str) -> list[str]:
    first = "import warnings; warnings.simplefilter('ignore', ResourceWarning);"
    factory = {"asyncio": "asyncio.SelectorEventLoop", "hoop": "hoop.new_event_loop"}[loop_name]
    imports = f"import asyncio{', hoop' if loop_name == 'hoop' else ''}\n"
    return [sys.executable, "-c", f"{first}{imports}factory = {factory}\n{PROGRAM}"]


@pytest.mark.stock_fails("sets O_NONBLOCK on its standard input and output for everybody")
def test_program_on_a_terminal_leaves_it_blocking(loop_name):
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    with subprocess.Popen(
        program(loop_name), stdin=slave, stdout=slave, start_new_session=True
    ) as process:
        for word in (b"one", b"two"):
            os.write(master, word + b"\n")
            assert os.read(master, 100) == b"<" + word + b">\r\n"
            assert not nonblocking(slave)
        os.write(master, b"\x04")  # end of file
        assert process.wait() == 0
    assert not nonblocking(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.stock_fails("sets O_NONBLOCK on its standard input and output for everybody")
def test_program_in_a_pipeline_leaves_the_pipes_blocking(loop_name):
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    with subprocess.Popen(program(loop_name), stdin=in_read, stdout=out_write) as process:
        os.write(in_write, b"one\n")
        assert os.read(out_read, 100) == b"<one>\n"
        assert not nonblocking(in_read) and not nonblocking(out_write)
        os.close(in_write)
        assert process.wait() == 0
    assert not nonblocking(in_read) and not nonblocking(out_write)
    for fd in (in_read, out_read, out_write):
        os.close(fd)


async def test_unclosed_pipes_of_a_closed_loop(loop, loop_factory, pipe):
    async def connect() -> Any:
        ends = await other.connect_read_pipe(asyncio.Protocol, pipe[0])
        return ends[0], (await other.connect_write_pipe(asyncio.BaseProtocol, pipe[1]))[0]

    other = loop_factory()
    transports = await loop.run_in_executor(None, other.run_until_complete, connect())
    other.close()
    for transport in transports:
        assert "open" in repr(transport)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        transport._pipe = None
        assert "closed" in repr(transport)
