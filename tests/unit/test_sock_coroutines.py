# SPDX-License-Identifier: MIT
"""Socket methods as coroutines, with sockets that are not plain, and at the end of their loop."""

import asyncio
import collections.abc
import gc
import inspect
import socket
import ssl
import warnings
import weakref

import pytest
from sockkit import cancelled, fill, readers_of, step, turns, waiting


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


# ---- sockets that are not plain ----


async def test_subclass_is_asked(loop, pair):
    class Loud(socket.socket):
        def recv(self, size):
            return super().recv(size).upper()

    left, right = pair
    loud = Loud(fileno=left.detach())
    loud.setblocking(False)
    with loud:
        task = await waiting(loop.sock_recv(loud, 10))
        right.send(b"abc")
        assert await task == b"ABC"
        task = await waiting(loop.sock_recv(loud, 10))
        await cancelled(task)


async def test_tls_sockets_are_refused(loop):
    context = ssl.create_default_context()
    plain, peer = socket.socketpair()
    with context.wrap_socket(plain, do_handshake_on_connect=False, server_hostname="x") as sock:
        sock.setblocking(False)
        for operation in (
            loop.sock_recv(sock, 1),
            loop.sock_recv_into(sock, bytearray(1)),
            loop.sock_sendall(sock, b"x"),
            loop.sock_connect(sock, ("127.0.0.1", 1)),
            loop.sock_accept(sock),
        ):
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await operation
    peer.close()


async def test_socket_with_a_timeout(loop, pair):
    """The socket's own timeout holds, as it blocks."""
    left, right = pair
    left.settimeout(0.01)
    with pytest.raises(TimeoutError):
        await loop.sock_recv(left, 10)
    right.send(b"x")
    assert await loop.sock_recv(left, 10) == b"x"


@pytest.mark.stock_fails("blocks the loop")
async def test_blocking_socket_does_not_block_the_loop(loop, pair):
    left, right = pair
    left.setblocking(True)
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    assert await task == b"x"


async def test_debug_mode_wants_nonblocking_sockets(loop, pair):
    left, right = pair
    loop.set_debug(True)
    left.setblocking(True)
    for operation in (
        loop.sock_recv(left, 1),
        loop.sock_recv_into(left, bytearray(1)),
        loop.sock_recvfrom(left, 1),
        loop.sock_recvfrom_into(left, bytearray(1)),
        loop.sock_sendall(left, b"x"),
        loop.sock_sendto(left, b"x", "x"),
        loop.sock_connect(left, "x"),
        loop.sock_accept(left),
    ):
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await operation
    left.setblocking(False)
    task = await waiting(loop.sock_recv(left, 10))
    right.send(b"x")
    assert await task == b"x"


# ---- as coroutines ----


OPERATIONS = [
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_coroutine_functions(loop, name):
    stock = getattr(asyncio.SelectorEventLoop, name)
    for method, original in (
        (getattr(loop, name), stock.__get__(loop)),
        (getattr(type(loop), name), stock),
    ):
        assert inspect.iscoroutinefunction(method)
        assert inspect.signature(method) == inspect.signature(original)
        assert method.__name__ == name
        assert method.__doc__ == original.__doc__


def test_looks_like_a_coroutine(loop, pair):
    operation = loop.sock_recv(pair[0], 10)
    assert asyncio.iscoroutine(operation)
    assert inspect.isawaitable(operation)
    assert isinstance(operation, collections.abc.Coroutine)
    assert operation.__name__ == "sock_recv"
    assert operation.__qualname__ == "BaseSelectorEventLoop.sock_recv"
    assert repr(operation).startswith("<coroutine object BaseSelectorEventLoop.sock_recv at 0x")
    assert operation.cr_running is False
    operation.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        operation.send(None)


def test_is_lazy(loop, pair):
    left, right = pair
    operation = loop.sock_recv(left, 10)
    sending = loop.sock_sendall(left, b"late")
    right.send(b"late too")
    with pytest.raises(BlockingIOError):
        right.recv(10)
    assert step(operation) == b"late too"
    sending.close()


@pytest.mark.parametrize("inherited", [False, True])
def test_never_awaited(loop, pair, inherited):
    loop.set_debug(inherited)
    for _ in range(3):
        with pytest.warns(
            RuntimeWarning, match="coroutine 'BaseSelectorEventLoop.sock_recv' was never awaited"
        ):
            loop.sock_recv(pair[0], 1)
            gc.collect()


def test_never_awaited_as_an_error(loop, pair, unraisable):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 1)
    assert len(unraisable) == 1
    assert "was never awaited" in unraisable[0]
    unraisable.clear()


@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature of throw")
def test_protocol_of_coroutines(loop, pair):
    left, right = pair
    operation = loop.sock_recv(left, 10)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        operation.send(1)
    with pytest.raises(ValueError, match="thrown"):
        operation.throw(ValueError("thrown"))
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        operation.throw(ValueError)
    assert operation.close() is None
    operation = loop.sock_recv(left, 10)
    future = operation.send(None)
    assert asyncio.isfuture(future)
    assert left.fileno() in readers_of(loop)
    with pytest.raises(KeyError):
        operation.throw(KeyError)
    future.cancel()
    loop.run_until_complete(turns())
    assert not readers_of(loop)
    operation = loop.sock_recv(left, 10)
    future = operation.send(None)
    operation.close()
    future.cancel()
    loop.run_until_complete(turns())
    assert not readers_of(loop)
    operation = loop.sock_recv(left, 10)
    with pytest.raises(TypeError, match="exceptions must be classes"):
        operation.throw(1)
    with pytest.raises(TypeError, match="instance exception may not have a separate value"):
        operation.throw(KeyError(1), 1)
    with pytest.raises(KeyError, match="text"):
        operation.throw(KeyError, "text")


async def test_tasks_of_operations(loop, pair):
    left, right = pair
    task = asyncio.create_task(loop.sock_recv(left, 10), name="receiver")
    await turns()
    assert "sock_recv" in repr(task)
    right.send(b"x")
    results = await asyncio.gather(task, loop.sock_sendall(left, b"y"))
    assert results == [b"x", None]
    shielded = asyncio.shield(loop.sock_recv(right, 10))
    assert await shielded == b"y"
    concurrent = await loop.run_in_executor(
        None, asyncio.run_coroutine_threadsafe, loop.sock_sendall(left, b"z"), loop
    )
    await asyncio.wrap_future(concurrent)
    assert right.recv(10) == b"z"


@pytest.mark.since((3, 12), "eager tasks")
async def test_eager_tasks(loop, pair):
    left, right = pair
    loop.set_task_factory(asyncio.eager_task_factory)
    right.send(b"x")
    task = asyncio.create_task(loop.sock_recv(left, 10))
    assert task.done()
    assert await task == b"x"
    task = asyncio.create_task(loop.sock_recv(left, 10))
    assert not task.done()
    right.send(b"y")
    assert await task == b"y"


async def test_awaited_in_an_except_block(loop, pair):
    """Coroutines' exceptions are chained as the interpreter does it."""
    left, _ = pair
    left.close()
    with pytest.raises(OSError) as caught:
        try:
            raise KeyError("first")
        except KeyError:
            await loop.sock_recv(left, 10)
    assert isinstance(caught.value.__context__, KeyError)


# ---- the loop's end, and the collector ----


def test_closing_the_loop(loop_factory, pair):
    left, right = pair
    loop = loop_factory()
    fill(left)
    operations = [loop.sock_recv(left, 10), loop.sock_sendall(left, b"x")]
    for operation in operations:
        operation.send(None)
    loop.close()
    right.send(b"data")
    for operation in operations:
        operation.close()
    operation = loop.sock_recv(left, 2)
    assert step(operation) == b"da"
    assert left.recv(10) == b"ta"
    operation = loop.sock_recv(left, 2)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        operation.send(None)


@pytest.mark.stock_fails("the future belongs to a closed loop: InvalidStateError or nothing")
def test_going_on_after_the_loop_was_closed(loop_factory, pair):
    loop = loop_factory()
    operation = loop.sock_recv(pair[0], 2)
    operation.send(None)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        operation.send(None)


def test_collected_with_its_loop(raw_loop_factory, pair):
    left, _ = pair
    loop = raw_loop_factory()

    class Canary:
        pass

    canary = Canary()
    gone = weakref.ref(canary)

    async def receive(loop, canary):
        await loop.sock_recv(left, 10)

    task = loop.create_task(receive(loop, canary))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()
    del task, canary, loop
    gc.collect()
    assert gone() is None


@pytest.mark.stock_fails("its socket pair makes it warn, too", before=(3,))
def test_unclosed_loop_with_waiting_operations(raw_loop_factory, pair):
    left, _ = pair
    loop = raw_loop_factory()
    operation = loop.sock_recv(left, 10)
    future = operation.send(None)
    future.loop = loop
    gone = weakref.ref(loop) if hasattr(loop, "__weakref__") else weakref.ref(future)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop, operation, future
        gc.collect()
    assert gone() is None


async def test_task_that_nobody_holds_is_kept_by_the_loop(loop, pair):
    left, right = pair
    done = asyncio.Event()

    async def receive():
        await loop.sock_recv(left, 10)
        done.set()

    loop.create_task(receive())
    await turns()
    gc.collect()
    right.send(b"x")
    await asyncio.wait_for(done.wait(), 10)


async def test_nothing_keeps_the_socket(loop, pair):
    """The loop remembers it by a weak reference only."""
    left, right = pair
    sock = socket.socket(fileno=left.detach())
    sock.setblocking(False)
    task = await waiting(loop.sock_recv(sock, 10))
    right.send(b"x")
    await task
    gone = weakref.ref(sock)
    sock.close()
    del sock, task
    gc.collect()
    assert gone() is None


async def test_weak_references(loop, pair):
    operation = loop.sock_recv(pair[0], 1)
    reference = weakref.ref(operation)
    operation.close()
    assert reference() is operation
    del operation
    assert reference() is None


@pytest.mark.filterwarnings("ignore:the .* signature of throw:DeprecationWarning")
async def test_throw_with_a_traceback(loop, pair):
    """The old form: type, value, traceback."""
    operation = loop.sock_recv(pair[0], 1)
    with pytest.raises(TypeError, match="third argument must be a traceback object"):
        operation.throw(ValueError, None, 5)
    try:
        raise KeyError
    except KeyError as error:
        tracebacks = error.__traceback__
    with pytest.raises(ValueError, match="why") as caught:
        operation.throw(ValueError, ValueError("why"), tracebacks)
    lines = [entry.lineno + 1 for entry in caught.traceback]  # pytest counts from 0
    assert tracebacks.tb_lineno in lines
