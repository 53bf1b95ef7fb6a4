# SPDX-License-Identifier: MIT
"""A stock StreamReader and an accelerated one side by side, through the same random steps.

HOOP_EXAMPLES sets the number of examples of each test (200).
"""

import asyncio
import os
import socket

import pytest

hypothesis = pytest.importorskip("hypothesis")
hoop = pytest.importorskip("hoop")
st = hypothesis.strategies

# A task that is cancelled before it starts never awaits what it was made of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*register_random"),
]

SETTINGS = hypothesis.settings(
    max_examples=int(os.environ.get("HOOP_EXAMPLES", "200")),
    deadline=None,
    derandomize="HOOP_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


class FakeTransport:
    """Notes what a reader asks of it."""

    def __init__(self, can_pause):
        self.can_pause = can_pause
        self.calls = []

    def pause_reading(self):
        self.calls.append("pause")
        if not self.can_pause:
            raise NotImplementedError

    def resume_reading(self):
        self.calls.append("resume")


class Subject:
    """One of the two readers, with the tasks that read from it and what was kept of it."""

    def __init__(self, reader, can_pause):
        self.reader = reader
        self.transport = None if can_pause is None else FakeTransport(can_pause)
        reader._transport = self.transport
        self.tasks = []
        self.held = []
        self.caught = []

    def do(self, step):
        """Take one step; what it raises at once is noted."""
        name, *args = step
        try:
            getattr(self, f"do_{name}")(*args)
        except Exception as exception:
            self.caught.append((name, describe(exception)))

    def do_read(self, method, *args):
        operation = getattr(self.reader, method)(*args)
        if method == "__anext__":
            operation = stop_as_value(operation)
        self.tasks.append(asyncio.get_running_loop().create_task(operation))

    def do_feed(self, data):
        self.reader.feed_data(data)

    def do_eof(self):
        self.reader.feed_eof()

    def do_exception(self):
        self.reader.set_exception(ConnectionResetError("gone"))

    def do_cancel(self, index):
        if self.tasks:
            self.tasks[index % len(self.tasks)].cancel()

    def do_limit(self, limit):
        self.reader._limit = limit

    def do_hold(self):
        self.held.append(self.reader._buffer)

    def do_export(self):
        self.held.append(memoryview(self.reader._buffer))

    def do_let_go(self):
        self.held.clear()

    def do_extend(self, data):
        self.reader._buffer.extend(data)

    def do_shorten(self):
        del self.reader._buffer[:1]

    def do_replace(self, data):
        self.reader._buffer = bytearray(data)

    def do_look(self):
        self.caught.append(bytes(self.reader._buffer))

    def state(self):
        """All that can be seen, without looking at `_buffer`, which would change its form."""
        reader = self.reader
        return {
            "caught": self.caught,
            "tasks": [outcome(task) for task in self.tasks],
            "calls": self.transport and self.transport.calls,
            "eof": (reader._eof, reader.at_eof()),
            "waits": reader._waiter is not None,
            "paused": reader._paused,
            "forgot": reader._transport is None,
            "held": [bytes(part) for part in self.held],
            "exception": describe(reader.exception()),
        }


async def stop_as_value(operation):
    """A task cannot end with StopAsyncIteration on every version."""
    try:
        return await operation
    except StopAsyncIteration:
        return "stop"


def describe(exception):
    if exception is None:
        return None
    return (
        type(exception),
        str(exception),
        exception.args,
        getattr(exception, "partial", None),
        getattr(exception, "consumed", None),
        exception.__suppress_context__,
        describe(exception.__context__),
    )


def outcome(task):
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    return describe(task.exception()) or task.result()


async def accelerated_reader(limit):
    """A reader that hoop has made its own, without a connection any more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit)
    ours, peer = socket.socketpair()
    with peer:
        transport, _ = await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader), ours
        )
        transport.set_protocol(asyncio.Protocol())
        transport.abort()
        await asyncio.sleep(0)
    assert type(reader) is not asyncio.StreamReader
    return reader


async def compare(limit, can_pause, steps):
    stock = Subject(asyncio.StreamReader(limit=limit), can_pause)
    ours = Subject(await accelerated_reader(limit), can_pause)
    assert type(stock.reader) is asyncio.StreamReader
    for step in steps:
        if step[0] == "turn":
            await asyncio.sleep(0)
        else:
            stock.do(step)
            ours.do(step)
        assert stock.state() == ours.state(), step
    for task in stock.tasks + ours.tasks:
        task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert stock.state() == ours.state(), "at the end"
    assert stock.reader._buffer == ours.reader._buffer


data = st.lists(
    st.sampled_from([b"a", b"b", b"ab", b"\n", b"\r\n", b"x" * 7, b"x" * 40]), max_size=6
).map(b"".join)
sizes = st.sampled_from([-2, -1, 0, 1, 2, 3, 8, 50, 1000, True, 1.5, None, "1", 2**70])
separators = st.sampled_from([b"\n", b"\r\n", b"a", b"ab", b"aba", b"", "a", bytearray(b"b")])
separator_tuples = st.sampled_from([(b"a", b"\r\n"), (b"ab", b"b"), (), (b"",)])
limits = st.sampled_from([1, 2, 3, 10, 50, 1000])

reads = st.one_of(
    st.tuples(st.just("read"), st.just("readline")),
    st.tuples(st.just("read"), st.just("__anext__")),
    st.tuples(st.just("read"), st.just("read")),
    st.tuples(st.just("read"), st.sampled_from(["read", "readexactly"]), sizes),
    st.tuples(st.just("read"), st.just("readuntil"), st.one_of(separators, separator_tuples)),
)
feeds = st.tuples(st.just("feed"), st.one_of(data, data, data.map(bytearray), data.map(memoryview)))
looks = st.one_of(
    st.tuples(st.sampled_from(["hold", "export", "let_go", "shorten", "look"])),
    st.tuples(st.sampled_from(["extend", "replace"]), data),
)
ends = st.one_of(
    st.tuples(st.sampled_from(["eof", "exception"])), st.tuples(st.just("limit"), limits)
)
turn = st.just(("turn",))
cancel = st.tuples(st.just("cancel"), st.integers(0, 3))


def run(limit, can_pause, steps):
    with asyncio.Runner(loop_factory=hoop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda *_: None)  # tasks nobody asks
        runner.run(compare(limit, can_pause, steps))


@pytest.mark.timeout(600)
@SETTINGS
@hypothesis.given(
    limits,
    st.sampled_from([True, False, None]),
    st.lists(st.one_of(reads, feeds, feeds, turn, turn, cancel), max_size=25),
)
def test_reading_and_feeding(limit, can_pause, steps):
    run(limit, can_pause, steps)


@pytest.mark.timeout(600)
@SETTINGS
@hypothesis.given(
    limits,
    st.sampled_from([True, False, None]),
    st.lists(st.one_of(reads, reads, feeds, feeds, turn, turn, cancel, looks, ends), max_size=25),
)
def test_everything(limit, can_pause, steps):
    run(limit, can_pause, steps)
