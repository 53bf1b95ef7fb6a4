# SPDX-License-Identifier: MIT
"""Random timers: armed, cancelled and fired against a model."""

import asyncio
import random
import time

import pytest


@pytest.mark.parametrize("seed", range(4))
def test_random_timers(loop, seed):
    """Every timer that isn't cancelled fires once, never early, in order of deadlines."""
    rng = random.Random(seed)
    live, fired, cancelled = {}, [], set()
    count = 0

    def arm():
        nonlocal count
        key, count = count, count + 1
        when = loop.time() + rng.choice([0, 0.0001, 0.001, 0.003]) * rng.random()
        live[key] = loop.call_at(when, fire, key, when)

    def fire(key, when):
        assert time.monotonic() >= when
        assert key not in cancelled
        del live[key]
        fired.append(key)
        step()

    def step():
        for _ in range(rng.randrange(3)):
            if count < 3000:
                arm()
        if live and rng.random() < 0.4:
            key = rng.choice(list(live))
            live.pop(key).cancel()
            cancelled.add(key)

    async def main():
        while count < 3000:
            arm()
            step()
            if rng.random() < 0.1:
                await asyncio.sleep(0)
        while live:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), 50))
    assert len(fired) == len(set(fired))
    assert set(fired) | cancelled == set(range(count))


def test_many_live_timers_cancelled_in_random_order(loop):
    rng = random.Random(7)
    far = [loop.call_later(1000 + rng.random(), pytest.fail) for _ in range(20_000)]
    seen = []
    near = [0.005 * rng.random() for _ in range(500)]
    now = loop.time()
    for delay in near:
        loop.call_at(now + delay, seen.append, delay)
    rng.shuffle(far)
    for handle in far:
        handle.cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == sorted(near)


async def test_timeouts_that_never_expire(loop):
    async def one(i):
        for _ in range(50):
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
        return i

    assert await asyncio.gather(*map(one, range(100))) == list(range(100))
