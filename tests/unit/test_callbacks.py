# SPDX-License-Identifier: MIT
"""call_soon and its handles, and what happens to exceptions in callbacks."""

import asyncio
import gc
import logging
import re
import sys
import weakref

import pytest


def spin(loop, rounds=1):
    """Run `rounds` rounds of the loop."""
    for _ in range(rounds):
        loop.stop()
        loop.run_forever()


def test_call_soon_runs_in_order(loop):
    seen = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
    assert seen == []
    spin(loop)
    assert seen == list(range(1000))


def test_call_soon_and_call_soon_threadsafe_share_one_order(loop):
    seen = []
    for i in range(0, 20, 2):
        loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon(seen.append, i + 1)
    spin(loop)
    assert seen == list(range(20))


def test_order_is_shared_also_from_inside_a_callback(loop):
    seen = []

    def add():
        loop.call_soon(seen.append, 0)
        loop.call_soon_threadsafe(seen.append, 1)
        loop.call_soon(seen.append, 2)
        loop.call_soon_threadsafe(seen.append, 3)

    loop.call_soon(add)
    spin(loop, 2)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_callback_added_in_a_round_runs_in_the_next(loop, method):
    seen = []

    def add():
        seen.append("first")
        getattr(loop, method)(seen.append, "second")

    loop.call_soon(add)
    spin(loop)
    assert seen == ["first"]
    spin(loop)
    assert seen == ["first", "second"]


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_arguments(loop, method, count):
    seen = []
    args = tuple(object() for _ in range(count))
    when = {"call_later": (0,), "call_at": (loop.time(),)}.get(method, ())

    def callback(*args):
        seen.append(args)
        loop.stop()

    handle = getattr(loop, method)(*when, callback, *args)
    assert handle._callback is callback
    assert handle._args == args
    assert isinstance(handle._args, tuple)
    loop.run_forever()
    assert seen == [args]


def test_arguments_live_until_the_callback_has_run(loop):
    class Value:
        pass

    seen = []
    loop.call_soon(lambda *args: seen.append([type(a) for a in args]), *(Value() for _ in range(6)))
    gc.collect()
    spin(loop)
    assert seen == [[Value] * 6]


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_callback_and_arguments_die_after_the_run(loop, count):
    class Value:
        def __call__(self, *args):
            pass

    values = [Value() for _ in range(count + 1)]
    refs = [weakref.ref(value) for value in values]
    loop.call_soon(*values)
    values.clear()
    gc.collect()
    assert all(ref() is not None for ref in refs)
    spin(loop)
    assert [ref() for ref in refs] == [None] * (count + 1)


def test_callback_as_keyword(loop):
    seen = []
    loop.call_soon(callback=lambda: seen.append("soon"))
    loop.call_soon_threadsafe(callback=lambda: seen.append("threadsafe"))
    loop.call_later(delay=0, callback=lambda: seen.append("later"))
    loop.call_at(when=loop.time(), callback=lambda: seen.append("at"))
    loop.call_later(0, callback=lambda: seen.append("later"))
    spin(loop, 3)
    assert sorted(seen) == ["at", "later", "later", "soon", "threadsafe"]


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_soon(context=None),
        lambda loop: loop.call_soon(print, nonsense=1),
        lambda loop: loop.call_soon(print, callback=print),
        lambda loop: loop.call_soon_threadsafe(),
        lambda loop: loop.call_later(),
        lambda loop: loop.call_later(1),
        lambda loop: loop.call_later(1, print, nonsense=1),
        lambda loop: loop.call_at(),
        lambda loop: loop.call_at(1),
    ],
)
def test_wrong_signatures_are_type_errors(loop, call):
    with pytest.raises(TypeError):
        call(loop)


def test_cancelled_handle_does_not_run(loop):
    seen = []
    first = loop.call_soon(seen.append, 1)
    second = loop.call_soon(seen.append, 2)
    loop.call_soon_threadsafe(seen.append, 3).cancel()
    first.cancel()
    assert (first.cancelled(), second.cancelled()) == (True, False)
    assert (first._callback, first._args) == (None, None)
    first.cancel()
    spin(loop)
    assert seen == [2]


def test_cancel_by_an_earlier_callback_of_the_round(loop):
    seen = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(seen.append, 1)
    spin(loop)
    assert seen == []


def test_callback_cancels_itself(loop):
    seen = []

    def callback():
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_soon(callback)
    spin(loop)
    assert seen == [True]


def test_cancel_after_the_run(loop):
    handle = loop.call_soon(int)
    spin(loop)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_handle_is_an_asyncio_handle(loop, method):
    handle = getattr(loop, method)(int)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert handle._source_traceback is None
    assert callable(handle._run)
    assert weakref.ref(handle)() is handle
    handle.cancel()


def test_handle_run_by_hand(loop, errors):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    handle._run()
    assert seen == [1]
    spin(loop)
    assert seen == [1, 1]
    failing = loop.call_soon(lambda: 1 / 0)
    failing._run()
    failing.cancel()
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)


def callback_for_repr(*args):
    pass


@pytest.mark.parametrize("args", [(), (1, "a")])
def test_repr(loop, args):
    handle = loop.call_soon(callback_for_repr, *args)
    assert repr(handle) == repr(asyncio.Handle(callback_for_repr, args, loop))
    spin(loop)
    assert repr(handle).startswith("<Handle")
    handle = loop.call_soon(callback_for_repr, *args)
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_repr_in_debug_mode(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback_for_repr, 1)
    here = rf"{re.escape(__file__)}:\d+"
    pattern = rf"<Handle callback_for_repr\(.*\) at {here} created at {here}>"
    assert re.fullmatch(pattern, repr(handle))
    handle.cancel()
    assert re.fullmatch(pattern.replace("Handle", "Handle cancelled", 1), repr(handle))


def test_handle_made_by_hand_may_stand_in_the_queue(loop):
    seen = []
    loop._add_callback(asyncio.Handle(seen.append, (1,), loop))
    cancelled = asyncio.Handle(seen.append, (2,), loop)
    loop._add_callback(cancelled)
    cancelled.cancel()
    spin(loop)
    assert seen == [1]


def test_any_callable(loop):
    class Callable:
        def __call__(self, *args):
            seen.append(args)

        def method(self, *args):
            seen.append(args)

    seen = []
    loop.call_soon(Callable(), 1)
    loop.call_soon(Callable().method, 2)
    loop.call_soon(seen.append, (3,))
    loop.call_soon(seen.extend, [(4,)])
    loop.call_soon(type, "x", (), {})
    spin(loop)
    assert seen == [(1,), (2,), (3,), (4,)]


def test_exception_goes_to_the_handler_and_the_loop_goes_on(loop, errors):
    def fail(value):
        raise ValueError(value)

    handle = loop.call_soon(fail, "oops")
    stock = asyncio.Handle(fail, ("oops",), loop)
    seen = []
    loop.call_soon(seen.append, 1)
    spin(loop)
    assert seen == [1]
    stock._run()
    context, expected = errors
    errors.clear()
    assert context.keys() == {"message", "exception", "handle"}
    assert context["message"] == expected["message"]
    assert context["handle"] is handle
    assert isinstance(context["exception"], ValueError)
    assert context["exception"].args == ("oops",)


def test_exception_in_debug_mode_has_the_source_traceback(loop, errors):
    loop.set_debug(True)
    handle = loop.call_soon(lambda: 1 / 0)
    spin(loop)
    context = errors.pop()
    assert context["source_traceback"] is handle._source_traceback
    assert context["source_traceback"][-1].name == sys._getframe().f_code.co_name


def test_exception_of_another_base_class_goes_to_the_handler(loop, errors):
    class Custom(BaseException):
        pass

    def fail():
        raise Custom

    loop.call_soon(fail)
    loop.call_soon(fail)
    spin(loop)
    assert [type(c["exception"]) for c in errors] == [Custom, Custom]
    errors.clear()


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_exit_leaves_the_loop_and_the_rest_runs_next_time(loop, exception, method):
    def leave():
        raise exception("bye")

    seen = []
    args = (0,) if method == "call_later" else ()
    getattr(loop, method)(*args, leave)
    getattr(loop, method)(*args, seen.append, 1)
    loop.call_later(0, loop.stop)
    with pytest.raises(exception, match="bye"):
        loop.run_forever()
    assert seen == []
    assert not loop.is_running()
    assert not loop.is_closed()
    loop.call_soon(seen.append, 2)
    spin(loop, 2)
    assert seen == [1, 2]


def test_default_handler_logs(raw_loop_factory, caplog):
    def fail():
        raise ValueError("oops")

    loop = raw_loop_factory()
    try:
        loop.call_soon(fail)
        spin(loop)
    finally:
        loop.close()
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Exception in callback ")
    assert "fail() at" in record.getMessage()
    assert f"handle: <Handle {fail.__qualname__}() at" in record.getMessage()
    assert record.exc_info[0] is ValueError


def test_custom_handler_is_called_with_the_loop(loop):
    seen = []
    loop.set_exception_handler(lambda *args: seen.append(args))
    assert loop.get_exception_handler() is not None
    loop.call_soon(lambda: 1 / 0)
    spin(loop)
    ((called_with, context),) = seen
    assert called_with is loop
    assert isinstance(context["exception"], ZeroDivisionError)
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler(1)
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_handler_that_raises_is_logged(loop, caplog):
    def handler(loop, context):
        raise LookupError("handler is broken")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    seen = []
    loop.call_soon(seen.append, 1)
    spin(loop)
    assert seen == [1]
    assert "Unhandled error in exception handler" in caplog.text
    assert "handler is broken" in caplog.text


def test_exit_from_the_handler_leaves_the_loop(loop):
    def handler(loop, context):
        raise SystemExit

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(SystemExit):
        spin(loop)
    loop.set_exception_handler(None)


def test_readiness_is_not_starved_by_a_chain_of_callbacks(loop):
    """A descriptor that is ready is served within a few rounds of a busy call_soon chain."""
    import socket

    rounds_until_served = []
    rounds = 0
    left, right = socket.socketpair()

    def chain():
        nonlocal rounds
        rounds += 1
        if rounds < 10_000:
            loop.call_soon(chain)
        else:
            loop.stop()
        if rounds == 5000:
            right.send(b"x")

    def served():
        rounds_until_served.append(rounds - 5000)
        loop.remove_reader(left)

    with left, right:
        loop.add_reader(left, served)
        loop.call_soon(chain)
        loop.run_forever()
    assert len(rounds_until_served) == 1
    assert rounds_until_served[0] <= 64


def test_timer_is_not_starved_by_a_chain_of_callbacks(loop):
    def chain():
        if not fired:
            loop.call_soon(chain)
        else:
            loop.stop()

    fired = []
    loop.call_later(0.001, fired.append, 1)
    loop.call_soon(chain)
    loop.run_forever()
    assert fired == [1]


def test_many_callbacks(loop):
    """More than any initial capacity, growing while the queue wraps round."""
    seen = []
    for base in range(0, 60_000, 20_000):
        for i in range(base, base + 20_000):
            loop.call_soon(seen.append, i)
        if base:
            spin(loop)
    assert seen == list(range(60_000))
