# SPDX-License-Identifier: MIT
"""The loop itself: scheduling, running, stopping, tasks, handlers, generators, signals."""

import asyncio
import contextvars
import functools
import logging
import os
import signal
import threading

from probekit import probe, table

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def called(name, *args, **kwargs):
    """A scheduling call whose handle is cancelled."""

    def call(p):
        given = [a(p) if getattr(a, "of_probe", False) else a for a in args]
        handle = getattr(p.loop, name)(*given, **kwargs)
        handle.cancel()
        return handle

    return call


def coroutine_function(p):
    return p.settle


coroutine_function.of_probe = True

for _name, _first in (("call_soon", ()), ("call_soon_threadsafe", ()), ("call_later", (1,)),
                      ("call_at", (1e9,))):  # fmt: skip
    _calls = {
        "nothing": called(_name),
        "first-only": called(_name, *_first),
        "plain": called(_name, *_first, print),
        "arguments": called(_name, *_first, print, 1, 2, 3, 4, 5, 6),
        "not-callable": called(_name, *_first, 5),
        "none": called(_name, *_first, None),
        "coroutine-function": called(_name, *_first, coroutine_function),
        "context": called(_name, *_first, print, context=contextvars.copy_context()),
        "context-none": called(_name, *_first, print, context=None),
        "unknown": called(_name, *_first, print, nonsense=1),
    }
    table(_name, _calls)
    table(f"{_name}_debug", _calls, debug=True)

table(
    "call_later",
    {
        "delay-none": called("call_later", None, print),
        "delay-text": called("call_later", "x", print),
        "delay-negative": called("call_later", -5, print),
        "delay-infinite": called("call_later", float("inf"), print),
        "delay-bool": called("call_later", True, print),
        "when-none": called("call_at", None, print),
        "when-infinite": called("call_at", float("inf"), print),
    },
)


@probe
async def order_of_callbacks(p):
    note = p.note
    p.loop.call_later(0, note, "later 0")
    p.loop.call_soon(note, "soon 1")
    p.loop.call_later(-1, note, "later -1")
    p.loop.call_soon_threadsafe(note, "threadsafe")
    p.loop.call_soon(lambda: p.loop.call_soon(note, "nested"))
    p.loop.call_soon(note, "soon 2")
    asyncio.ensure_future(p.settle()).add_done_callback(lambda _: note("task done"))
    await asyncio.sleep(0)
    note("after one round")
    await asyncio.sleep(0)
    note("after two rounds")
    await p.settle()
    await p.settle()


@probe
async def handles(p):
    now = p.loop.time()
    for handle in (p.loop.call_soon(print), p.loop.call_at(now + 100, print, 1)):
        p.note(handle.cancelled(), repr(handle).split("when=")[0])
        handle.cancel()
        handle.cancel()
        p.note(handle.cancelled(), repr(handle).split("when=")[0])
        p.note(hash(handle) == hash(handle))
    first, second = p.loop.call_at(now + 50, print), p.loop.call_at(now + 60, print)
    p.note(first < second, first <= second, first > second, first >= second, first == second)
    p.note(first.when() == now + 50)
    p.call(lambda: first < 5)
    p.note(first == 5)
    first.cancel()
    second.cancel()


@probe
async def callback_that_raises(p):
    def fail(*args):
        raise ValueError("callback")

    p.loop.call_soon(fail)
    p.loop.call_soon(functools.partial(fail, 1), 2)
    p.loop.call_later(0, fail)
    p.loop.call_soon_threadsafe(fail)
    await p.settle()


@probe(debug=True)
async def callback_that_raises_in_debug_mode(p):
    handle = p.loop.call_soon(lambda: 1 / 0)
    p.note(repr(handle))
    p.loop.set_exception_handler(lambda _, context: p.note(sorted(context)))
    await p.settle()


@probe
async def exception_handlers(p):
    p.call(p.loop.set_exception_handler, 5)
    p.call(p.loop.set_exception_handler, None)
    p.call(p.loop.get_exception_handler)
    p.loop.call_soon(lambda: 1 / 0)
    await p.settle()
    p.call(p.loop.call_exception_handler, {"message": "mine"})
    p.call(p.loop.call_exception_handler, {})
    p.call(p.loop.call_exception_handler, {"exception": ValueError("x"), "extra": 5})
    p.call(p.loop.call_exception_handler, 5)
    p.call(p.loop.default_exception_handler, {"message": "mine", "source_traceback": []})
    p.loop.set_exception_handler(lambda *args: 1 / 0)
    p.call(p.loop.call_exception_handler, {"message": "mine"})
    p.loop.set_exception_handler(lambda: None)
    p.call(p.loop.call_exception_handler, {"message": "mine"})


@probe
async def task_exception_never_retrieved(p):
    async def fail():
        raise ValueError("task")

    task = asyncio.ensure_future(fail())
    await p.settle()
    del task
    future = p.loop.create_future()
    future.set_exception(KeyError("future"))
    del future
    await p.settle()


table(
    "create_task",
    {
        "nothing": lambda p: p.loop.create_task(),
        "int": lambda p: p.loop.create_task(5),
        "function": lambda p: p.loop.create_task(p.settle),
        "future": lambda p: p.loop.create_task(p.loop.create_future()),
        "name-int": lambda p: named(p, name=5),
        "name-none": lambda p: named(p, name=None) is not None,
        "context": lambda p: named(p, context=contextvars.copy_context()),
        "positional": lambda p: p.loop.create_task(p.settle(), "name"),
        "factory-odd": lambda p: p.loop.set_task_factory(5),
        "factory-none": lambda p: p.loop.set_task_factory(None),
    },
)


async def named(p, **kwargs):
    coro = p.settle()
    try:
        task = p.loop.create_task(coro, **kwargs)
    except BaseException:
        coro.close()
        raise
    await task
    return task.get_name() if kwargs.get("name") is not None else None


@probe(since=(3, 14))
async def eager_start(p):
    async def work():
        p.note("runs")

    coro = work()
    task = p.call(lambda: p.loop.create_task(coro, eager_start=True) and None)
    p.note("created", task)
    await p.settle()
    coro.close()


@probe
async def task_factories(p):
    seen = []

    def factory(loop, coro, **kwargs):
        seen.append(sorted(kwargs))
        return asyncio.Task(coro, loop=loop, **kwargs)

    p.loop.set_task_factory(factory)
    p.note(p.loop.get_task_factory() is factory)
    await p.loop.create_task(p.settle())
    await p.loop.create_task(p.settle(), name="x")
    await p.loop.create_task(p.settle(), context=contextvars.copy_context())
    p.loop.set_task_factory(None)
    p.note(seen[0], len(seen))


@probe
def misuse_of_runs(p):
    async def inside():
        p.call(p.loop.close)

    p.run(inside())
    p.call(p.loop.run_until_complete, 5)
    p.call(p.loop.run_until_complete)
    p.call(p.loop.run_until_complete, None)
    p.call(p.loop.run_forever, 1)


@probe
def stopped_before_the_future_is_done(p):
    future = p.loop.create_future()
    p.loop.call_soon(p.loop.stop)
    p.call(p.loop.run_until_complete, future)
    p.loop.stop()
    p.loop.call_soon(p.note, "one round")
    p.loop.run_forever()
    future.cancel()


@probe
def after_close(p):
    loop = p.loop
    loop.close()
    loop.close()
    coro = p.settle()
    p.note(loop.is_closed(), loop.is_running())
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(coro),
        lambda: loop.create_task(coro),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_reader(0, print),
        lambda: loop.add_writer(0, print),
        lambda: loop.remove_reader(0),
        lambda: loop.remove_writer(0),
        lambda: loop.add_signal_handler(signal.SIGUSR1, print),
        lambda: loop.remove_signal_handler(signal.SIGUSR1),
        lambda: loop.stop(),
        lambda: loop.set_debug(True),
        lambda: loop.get_debug(),
        lambda: loop.set_debug(False),
        lambda: loop.create_future().cancel(),
        lambda: loop.set_task_factory(None),
        lambda: loop.call_exception_handler({"message": "late"}),
        lambda: type(loop.time()),
    ):
        p.call(call)
    coro.close()


@probe
def handles_outlive_the_loop(p):
    handle = p.loop.call_later(100, print)
    soon = p.loop.call_soon(p.note, "never")
    p.loop.close()
    for each in (handle, soon):
        p.call(each.cancel)
        p.note(each.cancelled())


@probe
def close_forgets_callbacks(p):
    p.loop.call_soon(p.note, "never")
    p.loop.call_later(0, p.note, "never")
    p.loop.close()


@probe
def exits_leave_the_loop(p):
    for kind in (SystemExit, KeyboardInterrupt):
        for schedule in (p.loop.call_soon, functools.partial(p.loop.call_later, 0)):

            def leave(kind=kind):
                raise kind(7)

            schedule(leave)
            p.loop.call_soon(p.note, "beside")
            try:
                p.loop.run_forever()
            except BaseException as exc:
                p.note("left", exc, p.loop.is_running())
    p.run(p.settle())


@probe
def exit_of_a_task(p):
    async def leave():
        raise SystemExit(3)

    async def main():
        task = asyncio.ensure_future(leave())
        await p.settle()
        return task

    try:
        p.loop.run_until_complete(main())
    except SystemExit as exc:
        p.note("left", exc)
    p.run(p.settle())


@probe
def base_exception_of_a_callback(p):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd("base")

    p.loop.call_soon(fail)
    p.run(p.settle())


@probe
async def running_loop(p):
    p.note(asyncio.get_running_loop() is p.loop, p.loop.is_running())
    other = type(p.loop)()
    coro = p.settle()
    p.call(other.run_until_complete, coro)
    coro.close()
    p.call(other.run_forever)
    other.close()


@probe
async def wrong_thread(p):
    def work():
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            p.note(exc)
        p.loop.call_soon_threadsafe(p.note, "from thread")

    await asyncio.to_thread(work)
    await p.settle()


@probe(debug=True)
async def wrong_thread_in_debug_mode(p):
    def work():
        p.call(p.loop.call_soon, print)
        p.call(p.loop.call_later, 1, print)
        p.call(p.loop.call_at, 1, print)

    p.loop.slow_callback_duration = 10
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@probe(debug=True)
async def slow_callback(p):
    p.loop.slow_callback_duration = 0
    p.loop.call_soon(os.getpid)
    await asyncio.sleep(0)
    p.loop.slow_callback_duration = 10


@probe
async def asyncgens_are_shut_down(p):
    async def numbers(name):
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            p.note("closed", name)

    generators = [numbers("one")]
    for generator in generators:
        p.note(await anext(generator))
    await p.wait(p.loop.shutdown_asyncgens)
    late = numbers("late")
    p.note(await anext(late))
    await late.aclose()


@probe
async def asyncgen_that_fails_at_shutdown(p):
    async def numbers():
        try:
            yield 1
        finally:
            raise ValueError("closing")

    generator = numbers()
    await anext(generator)
    await p.wait(p.loop.shutdown_asyncgens)


@probe
async def asyncgen_collected(p):
    async def numbers():
        try:
            yield 1
        finally:
            p.note("closed")

    generator = numbers()
    await anext(generator)
    del generator
    await p.settle()


@probe
async def executor_shut_down(p):
    p.note(await p.loop.run_in_executor(None, abs, -1))
    await p.wait(p.loop.shutdown_default_executor)
    await p.wait(p.loop.shutdown_default_executor)
    await p.wait(p.loop.run_in_executor, None, abs, -1)


@probe
async def contexts_of_callbacks(p):
    VARIABLE.set("here")
    seen = {}

    def see(name):
        return lambda *args: seen.setdefault(name, VARIABLE.get())

    one, two = p.pair()
    other = contextvars.copy_context()
    other.run(VARIABLE.set, "given")
    p.loop.call_soon(see("soon"))
    p.loop.call_soon(see("given"), context=other)
    p.loop.call_later(0, see("later"))
    p.loop.call_soon_threadsafe(see("threadsafe"))
    p.loop.add_writer(one, see("writer"))
    p.loop.add_reader(two, see("reader"))
    p.loop.add_signal_handler(signal.SIGUSR1, see("signal"))
    future = p.loop.create_future()
    future.add_done_callback(see("done"))
    VARIABLE.set("later")
    future.set_result(1)
    one.send(b"x")
    os.kill(os.getpid(), signal.SIGUSR1)
    await p.settle()
    await p.settle()
    p.loop.remove_writer(one)
    p.loop.remove_reader(two)
    p.loop.remove_signal_handler(signal.SIGUSR1)
    p.note({name: seen.get(name) for name in sorted(seen)})


@probe
async def context_of_the_exception_handler(p):
    VARIABLE.set("raising")
    p.loop.set_exception_handler(lambda *args: p.note(VARIABLE.get()))
    p.loop.call_soon(lambda: 1 / 0)
    VARIABLE.set("later")
    await p.settle()


@probe
async def signals_are_delivered(p):
    def handler(*args):
        p.note("signal", *args)

    p.call(p.loop.add_signal_handler, signal.SIGUSR1, handler, 1, 2)
    p.call(p.loop.add_signal_handler, signal.SIGUSR2, lambda: 1 / 0)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
        await p.settle()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
        p.call(p.loop.remove_signal_handler, number)
    p.note(signal.getsignal(signal.SIGUSR1))


@probe
async def timeouts_and_waits(p):
    await p.wait(asyncio.wait_for, p.loop.create_future(), 0.001)
    await p.wait(asyncio.wait_for, p.loop.create_future(), 0)
    await p.wait(asyncio.wait_for, asyncio.sleep(0, "value"), 5)
    async with asyncio.timeout(5) as limit:
        await asyncio.sleep(0)
    p.note(limit.expired())

    async def fail():
        raise ValueError("member")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(100))
    except BaseException as exc:
        p.note(exc)
    p.note(await asyncio.gather(fail(), asyncio.sleep(0, 1), return_exceptions=True))


@probe
async def futures(p):
    future = p.loop.create_future()
    p.call(future.result)
    p.call(future.exception)
    p.call(future.set_exception, StopIteration())
    future.add_done_callback(lambda f: p.note("done", f.cancelled()))
    p.call(future.cancel, "why")
    p.call(future.set_result, 1)
    await p.settle()
    p.note(repr(p.loop.create_future()), p.loop.create_future().get_loop())


@probe
def slow_callback_duration_is_an_attribute(p):
    p.note(p.loop.slow_callback_duration)
    p.call(setattr, p.loop, "slow_callback_duration", 5)
    p.note(p.loop.get_debug(), type(p.loop.time()).__name__)
    p.call(p.loop.set_debug, 1)
    p.note(p.loop.get_debug() == True)  # noqa: E712
    p.call(p.loop.set_debug)
    p.loop.set_debug(False)
    logging.getLogger("asyncio").debug("done")
