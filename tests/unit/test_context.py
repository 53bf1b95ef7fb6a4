# SPDX-License-Identifier: MIT
"""Context variables in callbacks, timers, readers, signals and other threads."""

import asyncio
import contextvars
import gc
import socket
import threading
import weakref

import pytest

var = contextvars.ContextVar("var", default=None)

SCHEDULE = {
    "call_soon": lambda loop, *a, **k: loop.call_soon(*a, **k),
    "call_soon_threadsafe": lambda loop, *a, **k: loop.call_soon_threadsafe(*a, **k),
    "call_later": lambda loop, *a, **k: loop.call_later(0, *a, **k),
    "call_at": lambda loop, *a, **k: loop.call_at(loop.time(), *a, **k),
}
scheduling = pytest.mark.parametrize("how", SCHEDULE)


@pytest.fixture(autouse=True)
def own_context():
    """Tests set the variable; nothing of it reaches the next one."""
    token = var.set("start")
    yield
    var.reset(token)


def run_rounds(loop, count=3):
    for _ in range(count):
        loop.stop()
        loop.run_forever()


@scheduling
def test_callback_runs_in_a_copy_of_the_context(loop, how):
    seen = []

    def callback():
        seen.append(var.get())
        var.set("changed by the callback")

    var.set("at the call")
    SCHEDULE[how](loop, callback)
    var.set("after the call")
    run_rounds(loop)
    assert seen == ["at the call"]
    assert var.get() == "after the call"


@scheduling
def test_callback_runs_in_a_given_context(loop, how):
    seen = []

    def callback():
        seen.append((var.get(), contextvars.copy_context()[var]))
        var.set("left behind")

    context = contextvars.copy_context()
    context.run(var.set, "given")
    SCHEDULE[how](loop, callback, context=context)
    run_rounds(loop)
    assert seen == [("given", "given")]
    assert context[var] == "left behind"
    SCHEDULE[how](loop, callback, context=context)
    run_rounds(loop)
    assert seen[-1] == ("left behind", "left behind")
    assert var.get() == "start"


@scheduling
def test_context_none_means_a_copy(loop, how):
    seen = []
    var.set("here")
    SCHEDULE[how](loop, lambda: seen.append(var.get()), context=None)
    run_rounds(loop)
    assert seen == ["here"]


@scheduling
def test_context_of_another_type_is_refused(loop, how, errors):
    """asyncio finds out when it runs the handle; finding out at the call is as good."""
    try:
        SCHEDULE[how](loop, int, context=1)
        run_rounds(loop)
    except (TypeError, AttributeError):
        return
    assert isinstance(errors.pop()["exception"], (TypeError, AttributeError))


def test_context_is_entered_while_the_callback_runs(loop):
    context = contextvars.copy_context()
    raised = []

    def callback():
        try:
            context.run(int)
        except RuntimeError as exc:
            raised.append(str(exc))

    loop.call_soon(callback, context=context)
    run_rounds(loop)
    assert "is already entered" in raised[0]
    context.run(int)


def test_context_is_left_when_the_callback_raises(loop, errors):
    context = contextvars.copy_context()
    loop.call_soon(lambda: 1 / 0, context=context)
    run_rounds(loop)
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)
    context.run(int)


def test_context_is_left_when_the_callback_leaves_the_loop(loop):
    context = contextvars.copy_context()

    def leave():
        var.set("inside")
        raise SystemExit

    loop.call_soon(leave, context=context)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert var.get() == "start"
    context.run(int)


def test_context_that_is_already_entered_is_an_error_of_the_callback(loop, errors, caplog):
    """Since 3.12 the handler would run in that context too, so the error is only logged."""
    context = contextvars.copy_context()
    seen = []
    loop.call_soon(seen.append, 1, context=context)
    context.run(run_rounds, loop)
    assert "is already entered" in caplog.text + "".join(str(c["exception"]) for c in errors)
    assert seen == []
    errors.clear()


def test_nested_calls_inherit(loop):
    seen = []

    def outer():
        var.set("outer")
        loop.call_soon(middle)
        var.set("after")

    def middle():
        seen.append(var.get())
        var.set("middle")
        loop.call_later(0, lambda: seen.append(var.get()))

    loop.call_soon(outer)
    run_rounds(loop, 4)
    assert seen == ["outer", "middle"]


@pytest.mark.since((3, 12), "Handle.get_context()")
@scheduling
def test_get_context(loop, how):
    context = contextvars.copy_context()
    handle = SCHEDULE[how](loop, int, context=context)
    assert handle.get_context() is context
    handle.cancel()
    handle = SCHEDULE[how](loop, int)
    assert handle.get_context()[var] == "start"
    assert handle.get_context() is handle.get_context()
    handle.cancel()


@pytest.mark.since((3, 12), "the exception handler's context")
def test_exception_handler_runs_in_the_context_of_the_callback(loop):
    seen = []
    loop.set_exception_handler(lambda *_: seen.append(var.get()))
    context = contextvars.copy_context()
    context.run(var.set, "of the callback")
    loop.call_soon(lambda: 1 / 0, context=context)
    run_rounds(loop)
    assert seen == ["of the callback"]


def test_reader_and_writer_run_in_the_context_of_their_registration(loop):
    seen = {}
    left, right = socket.socketpair()

    def ready(name, remove):
        seen[name] = var.get()
        remove(left)

    with left, right:
        right.send(b"x")
        var.set("reader's")
        loop.add_reader(left, ready, "reader", loop.remove_reader)
        var.set("writer's")
        loop.add_writer(left, ready, "writer", loop.remove_writer)
        var.set("later")
        run_rounds(loop)
    assert seen == {"reader": "reader's", "writer": "writer's"}


def test_threadsafe_call_carries_the_context_of_its_thread(loop):
    seen = []

    def other_thread():
        var.set("other thread")
        loop.call_soon_threadsafe(lambda: seen.append(var.get()))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other_thread)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen == ["other thread"]


async def test_tasks_have_contexts_of_their_own(loop):
    async def child(name):
        var.set(name)
        await asyncio.sleep(0)
        return var.get()

    names = ["a", "b", "c"]
    assert await asyncio.gather(*map(child, names)) == names
    assert var.get() == "start"


async def test_to_thread_carries_the_context(loop):
    var.set("task's")
    assert await asyncio.to_thread(var.get) == "task's"


def test_context_dies_with_its_callback(loop):
    class Value:
        pass

    value = Value()
    alive = weakref.ref(value)
    context = contextvars.Context()
    context.run(var.set, value)
    loop.call_soon(int, context=context)
    del value, context
    run_rounds(loop, 1)
    gc.collect()
    assert alive() is None
