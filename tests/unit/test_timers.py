# SPDX-License-Identifier: MIT
"""call_later, call_at and their handles."""

import asyncio
import gc
import random
import re
import time
import weakref

import pytest


def run_for(loop, seconds):
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


def test_time_is_monotonic_seconds(loop):
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


def test_runs_in_order_of_deadlines(loop):
    seen = []
    now = loop.time()
    delays = [i / 10_000 for i in range(100)]
    random.Random(1).shuffle(delays)
    for delay in delays:
        loop.call_at(now + delay, seen.append, delay)
    run_for(loop, 0.02)
    assert seen == sorted(delays)


def test_overdue_timers_run_in_order_of_deadlines(loop):
    seen = []
    now = loop.time()
    for delay in (3, 1, 2):
        loop.call_at(now - 1 + delay / 1000, seen.append, delay)
    run_for(loop, 0)
    assert seen == [1, 2, 3]


@pytest.mark.stock_fails("its heap isn't stable: equal deadlines run in any order")
def test_equal_deadlines_run_in_order_of_their_calls(loop):
    seen = []
    when = loop.time() + 0.002
    for i in range(200):
        loop.call_at(when, seen.append, i)
    run_for(loop, 0.01)
    assert seen == list(range(200))


@pytest.mark.stock_fails("its heap isn't stable: equal deadlines run in any order")
def test_equal_deadlines_keep_their_order_when_others_are_cancelled(loop):
    seen = []
    when = loop.time() + 0.002
    handles = [loop.call_at(when, seen.append, i) for i in range(200)]
    for handle in handles[::3]:
        handle.cancel()
    run_for(loop, 0.01)
    assert seen == [i for i in range(200) if i % 3]


@pytest.mark.parametrize("delay", [0.0001, 0.0004, 0.0005, 0.001, 0.0015, 0.01])
def test_never_early(loop, delay):
    late = []

    def callback(when):
        late.append(time.monotonic() - when)

    for _ in range(5):
        when = loop.time() + delay
        handle = loop.call_at(when, callback, when)
        while not late or late[-1] is None:
            loop.call_later(delay, loop.stop)
            loop.run_forever()
        assert handle.when() == when
        assert late[-1] >= 0
        late.append(None)


async def test_sleep_is_never_early(loop):
    for delay in (0.0001, 0.0004, 0.0009, 0.0021):
        start = time.monotonic()
        await asyncio.sleep(delay)
        assert time.monotonic() - start >= delay


@pytest.mark.parametrize("delay", [0, -1, -1e9, 0.0, False])
def test_delay_that_is_over_runs_soon(loop, delay):
    seen = []
    handle = loop.call_later(delay, seen.append, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    run_for(loop, 0.001)
    assert seen == [1]


@pytest.mark.parametrize("delay", [10**6, 1e12, 1e300, float("inf")])
def test_far_deadlines_are_accepted_and_do_not_disturb(loop, delay):
    handle = loop.call_later(delay, pytest.fail)
    run_for(loop, 0.002)
    handle.cancel()
    assert handle.cancelled()


def test_zero_delay_waits_for_the_next_round(loop):
    seen = []

    def callback():
        seen.append("soon")
        loop.call_later(0, seen.append, "later")

    loop.call_soon(callback)
    loop.stop()
    loop.run_forever()
    assert seen == ["soon"]
    run_for(loop, 0.001)
    assert seen == ["soon", "later"]


def test_timer_started_by_a_timer(loop):
    seen = []

    def again(count):
        seen.append(count)
        if count:
            loop.call_later(0.0005, again, count - 1)
        else:
            loop.stop()

    loop.call_later(0.0005, again, 5)
    loop.run_forever()
    assert seen == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("method, word", [("call_later", "delay"), ("call_at", "when")])
def test_none_is_refused(loop, method, word):
    with pytest.raises(TypeError, match=f"{word} (must not|cannot) be None"):
        getattr(loop, method)(None, int)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
@pytest.mark.parametrize("value", ["1", object()])
def test_what_is_no_number_is_refused(loop, method, value):
    if method == "call_at":
        pytest.skip("asyncio takes anything that can be compared with a time")
    with pytest.raises(TypeError):
        getattr(loop, method)(value, int)


def test_when(loop):
    start = loop.time()
    handle = loop.call_later(100, int)
    assert start + 100 <= handle.when() <= loop.time() + 100
    handle.cancel()
    assert handle.when() >= start + 100
    for given in (10**6, 1e6 + 0.5):
        handle = loop.call_at(given, int)
        assert handle.when() is given
        handle.cancel()


def test_cancel(loop):
    seen = []
    handle = loop.call_later(0.001, seen.append, 1)
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    assert (handle._callback, handle._args) == (None, None)
    run_for(loop, 0.003)
    assert seen == []


def test_cancel_by_a_timer_of_the_same_round(loop):
    seen = []
    now = loop.time() - 1
    loop.call_at(now, lambda: second.cancel())
    second = loop.call_at(now + 0.5, seen.append, 2)
    run_for(loop, 0.001)
    assert seen == []
    assert second.cancelled()


def test_cancel_after_the_run(loop):
    handle = loop.call_later(0, int)
    run_for(loop, 0.001)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()


@pytest.mark.stock_fails("it keeps cancelled timers until half of the heap is cancelled")
def test_cancelled_timer_keeps_nothing(loop):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    handle = loop.call_later(1000, callback)
    alive = weakref.ref(handle)
    handle.cancel()
    del handle
    assert alive() is None
    assert len(loop._scheduled) == 0


def test_callback_of_a_cancelled_timer_is_released(loop):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    alive = weakref.ref(callback)
    handle = loop.call_later(1000, callback, callback)
    del callback
    handle.cancel()
    gc.collect()
    assert alive() is None


def test_cancelling_half_of_many(loop):
    seen = []
    rng = random.Random(2)
    now = loop.time()
    whens = [now + rng.random() / 100 for _ in range(2000)]
    handles = {when: loop.call_at(when, seen.append, when) for when in whens}
    cancelled = set(rng.sample(sorted(handles), 1000))
    for when in cancelled:
        handles[when].cancel()
    run_for(loop, 0.05)
    assert seen == sorted(set(whens) - cancelled)


def callback_for_repr(*args):
    pass


def test_handle_attributes_and_repr(loop):
    handle = loop.call_later(100, callback_for_repr, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)
    assert handle._callback is callback_for_repr
    assert handle._args == (1,)
    assert handle._source_traceback is None
    assert callable(handle._run)
    stock = asyncio.TimerHandle(handle.when(), callback_for_repr, (1,), loop)
    assert repr(handle) == repr(stock)
    when = handle.when()
    handle.cancel()
    assert repr(handle) == f"<TimerHandle cancelled when={when}>"


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    handle = loop.call_later(100, callback_for_repr)
    here = rf"{re.escape(__file__)}:\d+"
    when = re.escape(str(handle.when()))
    pattern = rf"<TimerHandle when={when} callback_for_repr\(\) at {here} created at {here}>"
    assert re.fullmatch(pattern, repr(handle))
    handle.cancel()
    assert re.fullmatch(pattern.replace("<TimerHandle", "<TimerHandle cancelled", 1), repr(handle))


def test_handles_compare_by_deadline(loop):
    early, late = loop.call_at(10**6, int), loop.call_at(10**6 + 1, int)
    stock = asyncio.TimerHandle(10**6 + 0.5, int, (), loop)
    assert early < late and early <= late and late > early and late >= early
    assert early < stock < late
    assert early == early and early != late
    assert early == loop.call_at(10**6, int)
    assert hash(early) == hash(10**6)
    assert sorted([late, stock, early]) == [early, stock, late]
    with pytest.raises(TypeError):
        early < 1  # noqa: B015
    assert early != 1


async def test_timeout_and_wait_for(loop):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    assert await asyncio.wait_for(asyncio.sleep(0.001, "done"), 60) == "done"


async def test_sleep_zero_yields_once(loop):
    seen = []

    async def other():
        seen.append("other")

    task = loop.create_task(other())
    await asyncio.sleep(0)
    seen.append("me")
    await task
    assert seen == ["other", "me"]
