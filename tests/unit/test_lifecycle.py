# SPDX-License-Identifier: MIT
"""Running, stopping and closing; asyncgens and the default executor at the end; garbage."""

import asyncio
import concurrent.futures
import gc
import os
import socket
import threading
import time
import warnings
import weakref

import pytest
from loopkit import open_fds


def test_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)


def test_states(loop):
    assert not loop.is_running()
    assert not loop.is_closed()
    seen = []
    loop.call_soon(lambda: seen.append((loop.is_running(), asyncio.get_running_loop() is loop)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [(True, True)]
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_repr(loop):
    text = repr(loop)
    assert "running=False closed=False debug=False" in text


def test_stop_before_the_run_makes_one_round(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(seen.append, 2))
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    loop.stop()
    loop.run_forever()
    assert seen == [1, 2]


def test_stop_in_a_callback_finishes_the_round(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(seen.append, 2))
    loop.run_forever()
    assert seen == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]


def test_stop_does_not_outlive_the_run(loop):
    loop.stop()
    loop.run_forever()
    loop.call_later(0.001, loop.stop)
    start = loop.time()
    loop.run_forever()
    assert loop.time() - start >= 0.001


def test_run_until_complete(loop):
    async def main():
        await asyncio.sleep(0)
        return 7

    assert loop.run_until_complete(main()) == 7
    future = loop.create_future()
    loop.call_soon(future.set_result, 8)
    assert loop.run_until_complete(future) == 8
    with pytest.raises(ZeroDivisionError):

        async def fail():
            return 1 / 0

        loop.run_until_complete(fail())
    future = loop.create_future()
    loop.call_soon(future.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)
    with pytest.raises(TypeError):
        loop.run_until_complete(1)


def test_run_until_complete_stopped_early(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    assert not future._callbacks


def test_run_until_complete_with_the_future_of_another_loop(loop, loop_factory):
    future = loop_factory().create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        loop.run_until_complete(future)


def test_run_until_complete_uses_asyncios_own_callback(loop):
    """anyio finds its root task by it."""
    from asyncio.base_events import _run_until_complete_cb

    async def main():
        return [callback for callback, _ in asyncio.current_task()._callbacks]

    assert loop.run_until_complete(main()) == [_run_until_complete_cb]


def test_loop_runs_again_after_an_error_in_run_until_complete(loop):
    async def leave():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(leave())
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


@pytest.mark.stock_fails(
    "a refused run_forever leaves the loop marked as not running", since=(3, 13), before=(3, 14)
)
async def test_running_loop_refuses_another_run(loop, loop_factory):
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_forever()
    future = loop.create_future()
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_until_complete(future)
    other = loop_factory()
    with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is"):
        other.run_forever()
    assert asyncio.get_running_loop() is loop
    assert not other.is_running()


async def test_running_loop_refuses_close(loop):
    with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
        loop.close()
    assert not loop.is_closed()
    await asyncio.sleep(0)


def test_close_is_idempotent_and_forgets_callbacks(loop):
    class Callback:
        def __call__(self):
            pytest.fail("ran")

    callbacks = [Callback() for _ in range(3)]
    refs = [weakref.ref(callback) for callback in callbacks]
    loop.call_soon(callbacks[0])
    loop.call_soon_threadsafe(callbacks[1])
    handle = loop.call_later(0.001, callbacks[2])
    loop.close()
    loop.close()
    callbacks.clear()
    handle.cancel()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


CLOSED = {
    "call_soon": lambda loop: loop.call_soon(int),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int),
    "call_later": lambda loop: loop.call_later(1, int),
    "call_at": lambda loop: loop.call_at(1, int),
    "run_forever": lambda loop: loop.run_forever(),
    "run_until_complete": lambda loop: loop.run_until_complete(asyncio.Future(loop=loop)),
    "run_in_executor": lambda loop: loop.run_in_executor(None, int),
    "add_reader": lambda loop: loop.add_reader(0, int),
    "add_writer": lambda loop: loop.add_writer(1, int),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, int),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_loop_refuses(loop, name):
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        CLOSED[name](loop)


def test_closed_loop_refuses_create_task(loop):
    async def main():
        pass

    loop.close()
    coro = main()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_closed_loop_refuses_connections(loop, loop_factory):
    """A coroutine of a closed loop ends with the error when another loop drives it."""
    loop.close()
    other = loop_factory()
    with socket.socket() as sock:
        sock.setblocking(False)
        for coro in (
            loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
            loop.sock_recv(sock, 1),
        ):
            with pytest.raises((RuntimeError, OSError)) as info:
                other.run_until_complete(coro)
            if isinstance(info.value, RuntimeError):
                assert "Event loop is closed" in str(info.value)


def test_closed_loop_answers_harmless_questions(loop):
    loop.close()
    assert not loop.is_running()
    assert loop.time() > 0
    assert loop.get_debug() in (True, False)
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(1) is False
    assert "closed=True" in repr(loop)
    loop.stop()


def test_close_with_a_reader_and_a_timer_left(loop):
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, int)
        loop.add_writer(right, int)
        loop.call_later(1, int)
        loop.close()


def test_unclosed_loop_warns(raw_loop_factory):
    before = open_fds()
    loop = raw_loop_factory()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert open_fds() == before


def test_dropped_loop_is_collected_with_what_refers_back_to_it(raw_loop_factory):
    left, right = socket.socketpair()
    with left, right, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        before = open_fds()
        refs = []
        for _ in range(20):
            loop = raw_loop_factory()

            def callback(loop=loop):
                pass

            loop.call_soon(callback)
            loop.call_soon_threadsafe(callback)
            loop.call_later(100, callback)
            loop.add_reader(left, callback)
            loop.attribute = loop
            refs += [weakref.ref(loop), weakref.ref(callback)]
        del loop, callback
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)
        assert open_fds() == before


def test_dropped_loop_is_collected_with_a_handle_that_is_held_elsewhere(raw_loop_factory):
    """A queued handle is also an attribute of an object that its callback refers to."""

    class Owner:
        def callback(self):
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        refs = []
        for schedule in (
            lambda loop, callback: loop.call_soon(callback),
            lambda loop, callback: loop.call_later(100, callback),
        ):
            owner = Owner()
            owner.loop = raw_loop_factory()
            owner.handle = schedule(owner.loop, owner.callback)
            refs += [weakref.ref(owner), weakref.ref(owner.loop)]
        del owner
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)


def test_closed_loop_is_collected(raw_loop_factory):
    async def main():
        await asyncio.sleep(0)

    loop = raw_loop_factory()
    alive = weakref.ref(loop)
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert alive() is None


def test_subclass_with_slots(raw_loop_factory):
    base = raw_loop_factory if isinstance(raw_loop_factory, type) else type(raw_loop_factory())

    class Sub(base):
        __slots__ = ("extra",)

        def __init__(self, extra):
            super().__init__()
            self.extra = extra

    loop = Sub("x")
    try:
        assert loop.extra == "x"
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        assert weakref.ref(loop)() is loop
        loop.anything = 1
    finally:
        loop.close()


def test_new_loops_leave_nothing(raw_loop_factory):
    before = open_fds()
    for _ in range(50):
        loop = raw_loop_factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert open_fds() == before


def test_asyncio_run_and_runner(raw_loop_factory):
    async def main():
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=raw_loop_factory) as runner:
        loop = runner.get_loop()
        assert runner.run(main()) is loop
        assert runner.run(main()) is loop
    assert loop.is_closed()


@pytest.mark.since((3, 12), "asyncio.run(loop_factory=)")
def test_asyncio_run_with_a_loop_factory(raw_loop_factory):
    async def main():
        return type(asyncio.get_running_loop())

    made = raw_loop_factory()
    made.close()
    assert asyncio.run(main(), loop_factory=raw_loop_factory) is type(made)


def test_shutdown_asyncgens(loop):
    closed = []

    async def generator(name):
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    left = [generator(1), generator(2)]

    async def main():
        for gen in left:
            assert await anext(gen) == 1

    loop.run_until_complete(main())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(closed) == [1, 2]


def test_dropped_asyncgen_is_closed_by_the_loop(loop):
    closed = []

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        async for _ in generator():
            break
        gc.collect()
        while not closed:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == [True]


def test_failing_asyncgen_at_shutdown_is_reported(loop, errors):
    async def generator():
        try:
            yield 1
        finally:
            raise ValueError("close failed")

    left = generator()

    async def main():
        await anext(left)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    context = errors.pop()
    assert "an error occurred during closing of asynchronous generator" in context["message"]
    assert context["asyncgen"] is left


def test_asyncgen_after_the_shutdown_warns(loop):
    async def generator():
        yield 1

    async def main():
        await loop.shutdown_asyncgens()
        gen = generator()
        with pytest.warns(ResourceWarning, match="was scheduled after"):
            await anext(gen)
        await gen.aclose()

    loop.run_until_complete(main())


def test_asyncgen_hooks_are_restored(loop):
    import sys

    before = sys.get_asyncgen_hooks()
    loop.run_until_complete(asyncio.sleep(0))
    assert sys.get_asyncgen_hooks() == before


async def test_run_in_executor(loop):
    def work(value):
        return value, threading.current_thread() is threading.main_thread()

    assert await loop.run_in_executor(None, work, 5) == (5, False)
    assert await asyncio.to_thread(work, 6) == (6, False)
    with concurrent.futures.ThreadPoolExecutor(2, "mine") as pool:
        name = await loop.run_in_executor(pool, lambda: threading.current_thread().name)
        assert name.startswith("mine")
        results = await asyncio.gather(*(loop.run_in_executor(pool, abs, -i) for i in range(20)))
        assert results == list(range(20))
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 / 0)


async def test_loop_is_responsive_while_the_executor_works(loop):
    done = threading.Event()
    waiting = loop.run_in_executor(None, done.wait, 30)
    for _ in range(10):
        await asyncio.sleep(0.0005)
    done.set()
    assert await waiting is True


async def test_set_default_executor(loop):
    with pytest.raises(TypeError):
        loop.set_default_executor(object())
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1, "chosen"))
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("chosen")


async def test_executor_refuses_after_its_shutdown(loop):
    assert await loop.run_in_executor(None, int) == 0
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


@pytest.mark.since((3, 12, 2), "a shutdown_default_executor(timeout) that does not wait on")
def test_executor_shutdown_with_a_timeout(loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 5)
        with pytest.warns(RuntimeWarning, match="did not finish"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        assert await future is True

    loop.run_until_complete(main())


def test_idle_loop_sleeps(loop):
    """A loop with nothing to do but a timer uses next to no CPU."""
    loop.call_later(0.2, loop.stop)
    start = time.thread_time()
    loop.run_forever()
    assert time.thread_time() - start < 0.1


def test_descriptors_of_a_loop_are_not_inherited(loop_factory):
    before = open_fds()
    loop_factory()
    new = open_fds().keys() - before.keys()
    assert new
    assert not any(os.get_inheritable(fd) for fd in new)
