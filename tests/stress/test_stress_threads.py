# SPDX-License-Identifier: MIT
"""call_soon_threadsafe from many threads, with the loop running, idle, stopping and closing."""

import asyncio
import collections
import random
import sys
import threading

import pytest


@pytest.fixture(autouse=True)
def eager_switching():
    """Let threads take the GIL from each other as often as possible."""
    saved = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(saved)


def start(target, count, *args):
    threads = [threading.Thread(target=target, args=(n, *args)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_storm(loop):
    """Each call runs exactly once and each thread's calls run in its order."""
    threads_count, calls = 8, 3000
    seen = collections.defaultdict(list)

    def caller(n):
        for i in range(calls):
            loop.call_soon_threadsafe(seen[n].append, i)
        loop.call_soon_threadsafe(finished.append, n)

    finished = []
    threads = start(caller, threads_count)

    async def wait():
        while len(finished) < threads_count:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 50))
    for thread in threads:
        thread.join()
    assert all(seen[n] == list(range(calls)) for n in range(threads_count))


def test_storm_on_a_loop_that_sleeps_between(loop):
    """A wake-up is never lost: each call is awaited before the next is made."""
    rounds = 400

    def caller(_):
        for _ in range(rounds):
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            if not ran.wait(20):
                lost.append(True)
                break
        loop.call_soon_threadsafe(finished.append, 1)

    lost, finished = [], []
    threads = start(caller, 3)

    async def wait():
        while len(finished) < 3:
            await asyncio.sleep(5 if not finished else 0.001)
            # A long sleep: only call_soon_threadsafe wakes the loop meanwhile.

    async def main():
        waiting = asyncio.ensure_future(wait())
        while len(finished) < 3 and not lost:
            await asyncio.sleep(0.05)
        waiting.cancel()

    loop.run_until_complete(asyncio.wait_for(main(), 50))
    for thread in threads:
        thread.join()
    assert not lost


def test_close_during_a_storm(loop_factory):
    """A call either is accepted and, if the loop runs once more, run once, or is a RuntimeError."""
    for seed in range(15):
        loop = loop_factory()
        ran = collections.Counter()
        accepted, refused = set(), {}
        go = threading.Event()

        def caller(n, loop=loop, ran=ran, accepted=accepted, refused=refused, go=go):
            go.wait()
            for i in range(10_000):
                key = (n, i)
                try:
                    loop.call_soon_threadsafe(ran.update, [key])
                except RuntimeError as exc:
                    refused[key] = str(exc)
                    return
                accepted.add(key)

        threads = start(caller, 4)
        rng = random.Random(seed)
        loop.call_soon(go.set)
        loop.call_later(rng.random() / 200, loop.stop)
        loop.run_forever()
        before_close = set(accepted)
        loop.stop()
        loop.run_forever()
        loop.close()
        for thread in threads:
            thread.join()
        assert before_close <= set(ran)
        assert set(ran) <= accepted
        assert not set(ran) & refused.keys()
        assert set(refused.values()) <= {"Event loop is closed"}
        assert set(ran.values()) <= {1}


def test_stop_and_run_during_a_storm(loop):
    """Calls made while the loop isn't running wait for the next run."""
    threads_count, calls = 4, 2000
    seen = []

    def caller(_):
        for i in range(calls):
            loop.call_soon_threadsafe(seen.append, i)

    threads = start(caller, threads_count)
    while any(thread.is_alive() for thread in threads):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(seen) == threads_count * calls


def test_cancel_during_a_storm(loop):
    """A callback whose handle was cancelled in time doesn't run; none runs twice."""
    ran = collections.Counter()
    cancelled_early = set()
    finished = []

    def caller(n):
        rng = random.Random(n)
        for i in range(1500):
            key = (n, i)
            handle = loop.call_soon_threadsafe(ran.update, [key])
            if rng.random() < 0.5:
                handle.cancel()
                cancelled_early.add(key)
        loop.call_soon_threadsafe(finished.append, n)

    threads = start(caller, 4)

    async def wait():
        while len(finished) < 4:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 50))
    for thread in threads:
        thread.join()
    everything = {(n, i) for n in range(4) for i in range(1500)}
    assert set(ran.values()) <= {1}
    assert everything - set(ran) <= cancelled_early


def test_run_coroutine_threadsafe_from_many_threads(loop):
    async def double(value):
        await asyncio.sleep(0)
        return 2 * value

    results = collections.defaultdict(list)
    finished = []

    def caller(n):
        for i in range(150):
            future = asyncio.run_coroutine_threadsafe(double(i), loop)
            results[n].append(future.result(20))
        loop.call_soon_threadsafe(finished.append, n)

    threads = start(caller, 6)

    async def wait():
        while len(finished) < 6:
            await asyncio.sleep(0.005)

    loop.run_until_complete(asyncio.wait_for(wait(), 50))
    for thread in threads:
        thread.join()
    assert all(results[n] == [2 * i for i in range(150)] for n in range(6))


def test_executor_jobs_come_back_in_full(loop):
    async def main():
        return await asyncio.gather(*(loop.run_in_executor(None, abs, -i) for i in range(1500)))

    assert loop.run_until_complete(main()) == list(range(1500))


def test_loops_made_and_closed_in_threads(raw_loop_factory):
    """Creation and close of loops in parallel; nothing is shared between them."""
    failures = []

    def work(n):
        try:
            for i in range(15):
                with asyncio.Runner(loop_factory=raw_loop_factory) as runner:
                    assert runner.run(asyncio.sleep(0, (n, i))) == (n, i)
        except BaseException as exc:
            failures.append(exc)

    for thread in start(work, 6):
        thread.join()
    assert failures == []
