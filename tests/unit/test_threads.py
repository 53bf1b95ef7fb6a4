# SPDX-License-Identifier: MIT
"""call_soon_threadsafe and run_coroutine_threadsafe, and loops in threads of their own."""

import asyncio
import concurrent.futures
import sys
import threading
import time

import pytest


@pytest.fixture
def running(loop):
    """The loop running in a thread of its own."""
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started.wait()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_wakes_a_sleeping_loop(running):
    for _ in range(20):
        ran = threading.Event()
        running.call_soon_threadsafe(ran.set)
        assert ran.wait(20)


def test_runs_in_the_thread_of_the_loop(running):
    threads = []
    done = threading.Event()
    for _ in range(3):
        running.call_soon_threadsafe(lambda: threads.append(threading.get_ident()))
    running.call_soon_threadsafe(done.set)
    assert done.wait(20)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_order_of_one_thread_is_kept(running):
    seen = []
    done = threading.Event()
    for i in range(5000):
        running.call_soon_threadsafe(seen.append, i)
    running.call_soon_threadsafe(done.set)
    assert done.wait(20)
    assert seen == list(range(5000))


def test_cancel_from_another_thread(running):
    """A handle cancelled before its callback started doesn't run."""
    gate, blocked, done = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def block():
        blocked.set()
        gate.wait(20)

    running.call_soon_threadsafe(block)
    assert blocked.wait(20)
    handle = running.call_soon_threadsafe(seen.append, 1)
    handle.cancel()
    assert handle.cancelled()
    gate.set()
    running.call_soon_threadsafe(done.set)
    assert done.wait(20)
    assert seen == []


def test_cancel_in_the_thread_of_the_loop(loop):
    seen = []
    handle = loop.call_soon_threadsafe(seen.append, 1)
    handle.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == []


@pytest.mark.since((3, 14), "a cancel that waits for the running callback")
def test_cancel_from_another_thread_waits_while_the_callback_runs(running):
    started, gate, finished, cancelled = (threading.Event() for _ in range(4))

    def callback():
        started.set()
        gate.wait(20)
        time.sleep(0.01)
        finished.set()

    handle = running.call_soon_threadsafe(callback)
    assert started.wait(20)

    def cancel():
        handle.cancel()
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert not cancelled.wait(0.02)
    gate.set()
    thread.join(20)
    assert finished.is_set()


def test_run_coroutine_threadsafe(running):
    ended = threading.Event()

    async def double(value):
        await asyncio.sleep(0)
        return 2 * value

    async def fail():
        raise ValueError("inside")

    async def forever():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    assert asyncio.run_coroutine_threadsafe(double(4), running).result(20) == 8
    with pytest.raises(ValueError, match="inside"):
        asyncio.run_coroutine_threadsafe(fail(), running).result(20)
    future = asyncio.run_coroutine_threadsafe(forever(), running)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.01)
    assert future.cancel()
    assert ended.wait(20)


def test_stop_from_another_thread(loop):
    timer = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    loop.run_forever()
    timer.join()


def test_calls_before_the_run_are_kept(loop):
    seen = []
    threads = [
        threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, i)) for i in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.stop()
    loop.run_forever()
    assert sorted(seen) == list(range(10))


def test_a_loop_in_each_thread(loop_factory):
    async def main(n):
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(asyncio.sleep(0.001, i * n) for i in range(50)))
            blocking = await loop.run_in_executor(None, pow, n, 2)
        return loop, results, blocking

    def work(n):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main(n))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert len({id(loop) for loop, _, _ in results}) == 4
    for n, (loop, values, blocking) in enumerate(results):
        assert loop.is_closed()
        assert values == [i * n for i in range(50)]
        assert blocking == n * n


def test_loops_call_each_other(loop_factory):
    """Two loops hand a token to and fro through call_soon_threadsafe."""
    loops = [loop_factory(), loop_factory()]
    done = threading.Event()

    def turn(count):
        if count == 0:
            done.set()
        else:
            loops[count % 2].call_soon_threadsafe(turn, count - 1)

    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()
    loops[0].call_soon_threadsafe(turn, 500)
    assert done.wait(20)
    for loop in loops:
        loop.call_soon_threadsafe(loop.stop)
    for thread in threads:
        thread.join()


def test_loop_moves_to_another_thread_between_runs(loop):
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(loop.run_until_complete, asyncio.sleep(0, 2)).result(20) == 2
    assert loop.run_until_complete(asyncio.sleep(0.001, 3)) == 3


def test_running_loop_is_seen_from_its_own_thread_only(running):
    assert running.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="already running"):
        running.run_forever()


def test_switch_interval_does_not_matter(loop):
    """Threads that take the GIL as often as they can don't break the hand-over."""
    saved = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    seen = []
    try:

        def caller():
            for i in range(500):
                loop.call_soon_threadsafe(seen.append, i)

        threads = [threading.Thread(target=caller) for _ in range(4)]
        for thread in threads:
            loop.call_soon(thread.start)

        def check():
            if len(seen) == 2000:
                loop.stop()
            else:
                loop.call_later(0.001, check)

        loop.call_soon(check)
        loop.run_forever()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(saved)
    assert len(seen) == 2000
