# SPDX-License-Identifier: MIT
"""add_reader, add_writer and their removal."""

import asyncio
import fcntl
import gc
import os
import socket
import tempfile
import weakref

import pytest
from loopkit import connection


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def spin(loop, rounds=2):
    for _ in range(rounds):
        loop.stop()
        loop.run_forever()


@pytest.mark.parametrize("as_number", [True, False])
async def test_reader(loop, pair, as_number):
    left, right = pair
    queue = asyncio.Queue()
    target = left.fileno() if as_number else left
    loop.add_reader(target, lambda *args: queue.put_nowait((left.recv(100), args)), 1, 2)
    for text in (b"one", b"two"):
        right.send(text)
        assert await queue.get() == (text, (1, 2))
    assert loop.remove_reader(target) is True
    assert loop.remove_reader(target) is False


@pytest.mark.parametrize("as_number", [True, False])
async def test_writer(loop, pair, as_number):
    left, _ = pair
    queue = asyncio.Queue()
    target = left.fileno() if as_number else left
    loop.add_writer(target, queue.put_nowait, 1)
    assert await queue.get() == 1
    assert loop.remove_writer(target) is True
    assert loop.remove_writer(target) is False


def test_level_triggered(loop, pair):
    left, right = pair
    count = []
    loop.add_reader(left, count.append, 1)
    right.send(b"unread")
    spin(loop, 40)
    assert len(count) >= 3
    loop.remove_reader(left)
    seen = len(count)
    spin(loop, 3)
    assert len(count) == seen


def test_callback_runs_through_the_ready_queue(loop, pair):
    """What was ready before the poll runs before the reader's callback."""
    left, right = pair
    seen = []
    right.send(b"x")

    def reader():
        seen.append("reader")
        loop.remove_reader(left)

    loop.add_reader(left, reader)
    loop.call_soon(seen.append, "soon")
    spin(loop, 20)
    assert seen == ["soon", "reader"]


def test_replace(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, seen.append, "first")
    loop.add_reader(left, seen.append, "second")
    right.send(b"x")
    spin(loop, 20)
    assert set(seen) == {"second"}
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_both_directions(loop, pair):
    left, right = pair
    seen = set()
    loop.add_reader(left, seen.add, "read")
    loop.add_writer(left, seen.add, "write")
    spin(loop, 20)
    assert seen == {"write"}
    right.send(b"x")
    spin(loop, 20)
    assert seen == {"read", "write"}
    assert loop.remove_writer(left) is True
    seen.clear()
    spin(loop, 20)
    assert seen == {"read"}
    loop.add_writer(left, seen.add, "write")
    assert loop.remove_reader(left) is True
    seen.clear()
    spin(loop, 20)
    assert seen == {"write"}
    assert loop.remove_writer(left) is True


def test_remove_and_add_in_the_callback(loop, pair):
    left, right = pair
    seen = []

    def first():
        seen.append("first")
        loop.remove_reader(left)
        loop.add_reader(left, second)

    def second():
        seen.append("second")
        loop.remove_reader(left)

    loop.add_reader(left, first)
    right.send(b"x")
    spin(loop, 40)
    assert seen == ["first", "second"]


def test_reader_removed_by_another_callback_of_the_round(loop):
    """Two descriptors are ready at once; the first callback removes the second reader."""
    pairs = [socket.socketpair() for _ in range(2)]
    seen = []

    def callback(mine, other):
        seen.append(mine)
        loop.remove_reader(pairs[mine][0])
        loop.remove_reader(pairs[other][0])

    loop.add_reader(pairs[0][0], callback, 0, 1)
    loop.add_reader(pairs[1][0], callback, 1, 0)
    for _, right in pairs:
        right.send(b"x")
    spin(loop, 40)
    assert len(seen) == 1
    for left, right in pairs:
        left.close()
        right.close()


def test_closed_and_reused_number_does_not_reach_the_old_owner(loop):
    seen = []
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(left, seen.append, "old")
    loop.remove_reader(left)
    left.close()
    right.close()
    left, right = socket.socketpair()
    with left, right:
        assert number in (left.fileno(), right.fileno())
        loop.add_reader(number, seen.append, "new")
        for sock in (left, right):
            sock.send(b"x")
        spin(loop, 20)
        loop.remove_reader(number)
    assert set(seen) == {"new"}


def test_number_closed_without_removal_can_be_registered_again(loop):
    """The kernel forgets a closed descriptor by itself; asyncio's own code does this to us."""
    left, right = socket.socketpair()
    seen = []
    loop.add_reader(left, seen.append, "old")
    left.close()
    right.close()
    left, right = socket.socketpair()
    with left, right:
        loop.remove_reader(left)
        loop.remove_reader(right)
        loop.add_reader(left, seen.append, "new")
        right.send(b"x")
        spin(loop, 20)
        loop.remove_reader(left)
    assert set(seen) == {"new"}


def test_peer_that_closes_is_readable_and_writable(loop, pair):
    left, right = pair
    seen = set()
    loop.add_reader(left, seen.add, "read")
    loop.add_writer(left, seen.add, "write")
    right.close()
    spin(loop, 20)
    loop.remove_reader(left)
    loop.remove_writer(left)
    assert seen == {"read", "write"}


def test_hang_up_reaches_a_reader_alone(loop):
    """EPOLLHUP or EPOLLERR without EPOLLIN must not spin unseen."""
    reader, writer = os.pipe()
    seen = set()
    try:
        loop.add_reader(reader, seen.add, "read")
        os.close(writer)
        spin(loop, 20)
        loop.remove_reader(reader)
    finally:
        os.close(reader)
    assert seen == {"read"}


def test_broken_pipe_reaches_a_writer(loop):
    reader, writer = os.pipe()
    seen = set()
    try:
        loop.add_writer(writer, seen.add, "write")
        os.close(reader)
        spin(loop, 20)
        loop.remove_writer(writer)
    finally:
        os.close(writer)
    assert seen == {"write"}


def test_pipes_and_objects_with_fileno(loop):
    reader, writer = os.pipe()
    seen = []
    with open(reader, "rb", buffering=0) as file, open(writer, "wb", buffering=0) as out:
        loop.add_reader(file, lambda: seen.append(file.read(10)))
        out.write(b"hello")
        spin(loop, 20)
        assert seen == [b"hello"]
        assert loop.remove_reader(file) is True


@pytest.mark.parametrize("blocking", [True, False])
def test_flags_of_the_descriptor_are_untouched(loop, blocking):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(blocking)
        flags = fcntl.fcntl(left, fcntl.F_GETFL)
        loop.add_reader(left, int)
        loop.add_writer(left, int)
        spin(loop)
        assert fcntl.fcntl(left, fcntl.F_GETFL) == flags
        loop.remove_reader(left)
        loop.remove_writer(left)
        assert fcntl.fcntl(left, fcntl.F_GETFL) == flags


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_regular_file_is_refused(loop, method):
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            getattr(loop, method)(file, int)
        remove = loop.remove_reader if method == "add_reader" else loop.remove_writer
        assert remove(file) is False


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("bad", [-1, "text", None, 1.5, object()])
def test_what_is_no_descriptor_is_refused(loop, method, bad):
    args = (int,) if method.startswith("add") else ()
    with pytest.raises((ValueError, TypeError)):
        getattr(loop, method)(bad, *args)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_closed_descriptor_is_refused(loop, method):
    left, right = socket.socketpair()
    number = left.fileno()
    left.close()
    right.close()
    with pytest.raises(OSError):
        getattr(loop, method)(number, int)
    with pytest.raises(ValueError):
        getattr(loop, method)(left, int)


def test_callback_that_raises_is_reported_and_stays_registered(loop, pair, errors):
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, lambda: 1 / 0)
    spin(loop, 20)
    assert len(errors) >= 2
    assert {type(context["exception"]) for context in errors} == {ZeroDivisionError}
    errors.clear()
    assert loop.remove_reader(left) is True


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
async def test_descriptor_of_a_transport_is_refused(loop, method):
    args = (int,) if method.startswith("add") else ()
    async with connection("tcp", "server") as (transport, _, _):
        number = transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match=f"File descriptor {number} is used by transport"):
            getattr(loop, method)(number, *args)


async def test_number_of_a_closed_transport_is_free_again(loop):
    async with connection("tcp", "server") as (transport, protocol, _):
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        left, right = socket.socketpair()
        with left, right:
            assert number in (left.fileno(), right.fileno())
            loop.add_writer(number, int)
            assert loop.remove_writer(number) is True


def test_callback_is_released_by_removal(loop, pair):
    class Callback:
        def __call__(self):
            pass

    callback, argument = Callback(), Callback()
    refs = [weakref.ref(callback), weakref.ref(argument)]
    loop.add_reader(pair[0], callback, argument)
    del callback, argument
    gc.collect()
    assert all(ref() is not None for ref in refs)
    loop.remove_reader(pair[0])
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_many_descriptors(loop):
    pairs = [socket.socketpair() for _ in range(200)]
    seen = set()

    def ready(i):
        seen.add(i)
        loop.remove_reader(pairs[i][0])
        if len(seen) == len(pairs):
            loop.stop()

    try:
        for i, (left, right) in enumerate(pairs):
            loop.add_reader(left, ready, i)
            right.send(b"x")
        loop.run_forever()
        assert seen == set(range(200))
    finally:
        for left, right in pairs:
            left.close()
            right.close()


def test_dup_of_a_registered_descriptor(loop, pair):
    left, right = pair
    other = os.dup(left.fileno())
    seen = set()
    try:
        loop.add_reader(left, seen.add, "left")
        loop.add_reader(other, seen.add, "dup")
        right.send(b"x")
        spin(loop, 20)
        assert seen == {"left", "dup"}
        assert loop.remove_reader(left) and loop.remove_reader(other)
    finally:
        os.close(other)


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_closed_file_is_found_by_itself(loop, kind):
    add, remove = getattr(loop, f"add_{kind}"), getattr(loop, f"remove_{kind}")
    left, right = socket.socketpair()
    with right:
        add(left, print)
        left.close()
        assert remove(left) is True
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            remove(left)


def test_file_lives_while_it_is_watched(loop, pair):
    _, right = pair
    called = []
    left = right.dup()
    gone = weakref.ref(left)
    loop.add_writer(left, called.append, 1)
    del left
    gc.collect()
    assert gone() is not None
    spin(loop)
    assert called
    left = gone()
    loop.remove_writer(left)
    left.close()
    del left
    gc.collect()
    assert gone() is None


@pytest.mark.stock_fails("the kernel is not told of the new socket")
def test_number_of_a_closed_socket_is_watched_anew(loop):
    called = []
    left, right = socket.socketpair()
    loop.add_reader(left, called.append, "old")
    number = left.fileno()
    left.close()
    right.close()
    new, peer = socket.socketpair()
    if new.fileno() != number:
        new, peer = peer, new
    with new, peer:
        assert new.fileno() == number
        loop.add_reader(new, called.append, "new")
        peer.send(b"x")
        spin(loop)
        loop.remove_reader(new)
    assert set(called) == {"new"}


@pytest.mark.parametrize("number", [1 << 40, 1 << 70])
def test_number_too_large_for_a_descriptor(loop, number):
    with pytest.raises(OverflowError, match="Python int too large to convert to C int"):
        loop.add_reader(number, print)
    assert loop.remove_reader(number) is False


def test_missing_arguments(loop, pair):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'callback'"):
        loop.add_reader(pair[0])
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        loop.add_writer()


def test_reader_removed_while_the_old_callback_dies(loop, pair):
    left, _ = pair

    class Callback:
        def __call__(self):
            """Never called."""

        def __del__(self):
            loop.remove_reader(left)

    loop.add_reader(left, Callback())
    loop._add_reader(left.fileno(), print)
    gc.collect()
    assert loop.remove_reader(left) is False
