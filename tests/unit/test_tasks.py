# SPDX-License-Identifier: MIT
"""Tasks and futures made by the loop, task factories, and overrides of call_soon."""

import asyncio
import contextvars
import inspect
import sys

import pytest


async def value(result=None):
    await asyncio.sleep(0)
    return result


async def test_create_task(loop):
    task = loop.create_task(value(1))
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert await task == 1


async def test_create_future(loop):
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop
    loop.call_soon(future.set_result, 2)
    assert await future == 2


async def test_create_task_name(loop):
    task = loop.create_task(value(), name="worker")
    assert task.get_name() == "worker"
    await task
    task = loop.create_task(value(), name=None)
    assert task.get_name().startswith("Task-")
    await task


async def test_create_task_context(loop):
    var = contextvars.ContextVar("var", default="outer")

    async def read():
        return var.get()

    context = contextvars.copy_context()
    context.run(var.set, "inner")
    assert await loop.create_task(read(), context=context) == "inner"
    assert await loop.create_task(read(), context=None) == "outer"
    assert await loop.create_task(read()) == "outer"


async def test_create_task_refuses(loop):
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(1)
    coro = value()
    with pytest.raises(TypeError):
        loop.create_task(coro, nonsense=1)
    coro.close()
    with pytest.raises(TypeError):
        loop.create_task()


@pytest.mark.since((3, 14), "create_task(eager_start=)")
@pytest.mark.parametrize("eager", [True, False])
async def test_create_task_eager_start(loop, eager):
    seen = []

    async def child():
        seen.append(1)

    task = loop.create_task(child(), eager_start=eager, name="n")
    assert seen == ([1] if eager else [])
    assert task.get_name() == "n"
    await task


@pytest.mark.parametrize("given", [{}, {"name": "x"}])
async def test_task_factory(loop, given):
    calls = []

    def factory(loop, coro, **kwargs):
        calls.append((loop, kwargs))
        return asyncio.Task(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(value(3), **given)
    loop.set_task_factory(None)
    assert await task == 3
    if given:
        assert task.get_name() == "x"
    ((called_with, _),) = calls
    assert called_with is loop
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(1)


async def test_task_factory_gets_the_context(loop):
    seen = []

    def factory(loop, coro, **kwargs):
        seen.append(kwargs.get("context"))
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    context = contextvars.copy_context()
    task = loop.create_task(value(), context=context)
    loop.set_task_factory(None)
    await task
    assert seen == [context]


async def test_legacy_task_factory_of_two_arguments(loop):
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    task = loop.create_task(value(4))
    loop.set_task_factory(None)
    assert await task == 4


@pytest.mark.since((3, 12), "eager tasks")
async def test_eager_task_factory(loop):
    seen = []

    async def child(n):
        seen.append(n)
        return n

    loop.set_task_factory(asyncio.eager_task_factory)
    task = asyncio.create_task(child(1))
    assert seen == [1]
    assert task.done()
    assert await task == 1
    assert await asyncio.gather(child(2), value(3)) == [2, 3]
    loop.set_task_factory(None)


async def test_task_class_is_looked_up_at_each_call(loop, monkeypatch):
    """nest_asyncio and asyncio's own tests replace it."""

    class Task(asyncio.tasks._PyTask):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    task = loop.create_task(value(1))
    assert type(task) is Task
    monkeypatch.undo()
    assert await task == 1


async def test_future_class_is_looked_up_at_each_call(loop, monkeypatch):
    class Future(asyncio.Future):
        pass

    monkeypatch.setattr(asyncio.futures, "Future", Future)
    future = loop.create_future()
    assert type(future) is Future


async def test_current_and_all_tasks(loop):
    task = loop.create_task(value())
    assert asyncio.all_tasks() >= {task, asyncio.current_task()}
    await task
    assert task not in asyncio.all_tasks()


async def test_structured_concurrency(loop):
    async with asyncio.TaskGroup() as group:
        first = group.create_task(value(1))
        second = group.create_task(value(2))
    assert (first.result(), second.result()) == (1, 2)
    with pytest.raises(ExceptionGroup):

        async def fail():
            raise ValueError

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))


async def test_futures_queues_locks_events(loop):
    queue = asyncio.Queue(2)
    results = []

    async def consumer():
        while (item := await queue.get()) is not None:
            results.append(item)

    task = loop.create_task(consumer())
    for item in (*range(1, 50), None):
        await queue.put(item)
    await task
    assert results == list(range(1, 50))
    lock, event = asyncio.Lock(), asyncio.Event()

    async def guarded(n):
        async with lock:
            await event.wait()
            results.append(-n)

    results.clear()
    tasks = [loop.create_task(guarded(n)) for n in range(5)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*tasks)
    assert results == [0, -1, -2, -3, -4]


async def test_exception_that_is_never_retrieved_is_reported(loop, errors):
    import gc

    async def fail():
        raise ValueError("lost")

    task = loop.create_task(fail())
    while not task.done():
        await asyncio.sleep(0)
    del task
    gc.collect()
    context = errors.pop()
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], ValueError)


def counting(loop, calls):
    original = loop.call_soon

    def call_soon(*args, **kwargs):
        calls.append(args[0])
        return original(*args, **kwargs)

    return call_soon


def test_call_soon_on_the_instance_is_honoured_by_task_wake_ups(loop):
    """aiocop and ddtrace patch it so."""
    calls = []

    async def main():
        loop.call_soon = counting(loop, calls)
        for _ in range(3):
            await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_later(0, future.set_result, 1)
        await future
        del loop.call_soon
        before = len(calls)
        await asyncio.sleep(0)
        return before

    assert loop.run_until_complete(main()) == len(calls)
    assert len(calls) >= 4


def test_call_soon_of_a_subclass_is_honoured_by_task_wake_ups(raw_loop_factory):
    class Counting(raw_loop_factory):
        calls = 0

        def call_soon(self, *args, **kwargs):
            self.calls += 1
            return super().call_soon(*args, **kwargs)

    loop = Counting()
    try:

        async def main():
            before = loop.calls
            for _ in range(5):
                await asyncio.sleep(0)
            return loop.calls - before

        assert loop.run_until_complete(main()) == 5
    finally:
        loop.close()


@pytest.mark.parametrize("method", ["call_at", "time", "create_task", "create_future"])
def test_overrides_are_honoured_by_what_calls_them(raw_loop_factory, method):
    calls = []

    def override(self, *args, **kwargs):
        calls.append(method)
        return getattr(super(cls, self), method)(*args, **kwargs)

    cls = type("Sub", (raw_loop_factory,), {method: override})
    loop = cls()
    try:

        async def main():
            await asyncio.sleep(0.0001)
            await asyncio.gather(value(), value())

        loop.run_until_complete(main())
        assert calls
    finally:
        loop.close()


@pytest.mark.parametrize(
    "name",
    [
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "create_task",
        "create_future",
        "create_server",
        "create_connection",
        "create_unix_server",
        "create_unix_connection",
        "connect_accepted_socket",
        "add_reader",
        "add_signal_handler",
        "run_in_executor",
        "shutdown_default_executor",
    ],
)
def test_public_methods_take_what_asyncios_take(loop, name):
    """Each parameter of the running Python's asyncio has its name, kind and default."""

    def shape(method):
        parameters = inspect.signature(method).parameters.values()
        return {p.name: (p.kind, p.default) for p in parameters if p.name != "self"}

    stock = shape(getattr(asyncio.SelectorEventLoop, name))
    mine = shape(getattr(type(loop), name))
    assert {name: mine.get(name) for name in stock} == stock


def test_gather_of_a_thousand(loop):
    async def main():
        return await asyncio.gather(*(value(i) for i in range(1000)))

    assert loop.run_until_complete(main()) == list(range(1000))


def test_deep_chain_of_awaits(loop):
    async def nested(depth):
        if depth:
            return await nested(depth - 1) + 1
        await asyncio.sleep(0)
        return 0

    depth = min(200, sys.getrecursionlimit() // 4)
    assert loop.run_until_complete(nested(depth)) == depth
