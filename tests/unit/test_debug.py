# SPDX-License-Identifier: MIT
"""Debug mode, in asyncio's own words."""

import asyncio
import logging
import re
import sys
import threading
import time

import pytest


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    return loop


def spin(loop):
    loop.stop()
    loop.run_forever()


def test_set_debug(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    assert loop._debug
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_environment_switches_it_on(script):
    done = script(
        "loop = factory(); print(loop.get_debug()); loop.close()", env={"PYTHONASYNCIODEBUG": "1"}
    )
    assert done.stdout == "True\n"
    done = script("loop = factory(); print(loop.get_debug()); loop.close()", python_args=("-Xdev",))
    assert done.stdout == "True\n"


def test_slow_callback_is_logged(debug_loop, caplog):
    def slow():
        time.sleep(0.02)

    assert debug_loop.slow_callback_duration == 0.1
    debug_loop.slow_callback_duration = 0.01
    debug_loop.call_soon(slow)
    debug_loop.call_soon(int)
    with caplog.at_level(logging.WARNING, "asyncio"):
        spin(debug_loop)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.name == "asyncio"
    assert re.fullmatch(
        rf"Executing <Handle {re.escape(slow.__qualname__)}\(\) at .*:\d+ created at .*:\d+> "
        r"took 0\.0\d\d seconds",
        record.getMessage(),
    )


def test_slow_task_step_is_logged_with_the_task(debug_loop, caplog):
    async def main():
        time.sleep(0.02)
        await asyncio.sleep(0)

    debug_loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug_loop.run_until_complete(main())
    messages = [r.getMessage() for r in caplog.records if "Executing" in r.getMessage()]
    assert len(messages) == 1
    assert re.match(r"Executing <Task (pending|finished) name='Task-\d+' coro=", messages[0])
    assert re.search(r"took 0\.0\d\d seconds$", messages[0])


def test_slow_timer_is_logged(debug_loop, caplog):
    debug_loop.slow_callback_duration = 0.01
    debug_loop.call_later(0, time.sleep, 0.02)
    debug_loop.call_later(0, debug_loop.stop)
    with caplog.at_level(logging.WARNING, "asyncio"):
        debug_loop.run_forever()
    assert re.search(r"Executing <TimerHandle when=.* took 0\.0\d\d seconds", caplog.text)


def test_no_log_without_debug(loop, caplog):
    loop.slow_callback_duration = 0.001
    loop.call_soon(time.sleep, 0.005)
    spin(loop)
    assert "Executing" not in caplog.text


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_call_from_another_thread_is_refused(debug_loop, method):
    when = () if method == "call_soon" else (0,)
    raised = []

    def other_thread():
        try:
            getattr(debug_loop, method)(*when, int)
        except RuntimeError as exc:
            raised.append(str(exc))
        debug_loop.call_soon_threadsafe(debug_loop.stop)

    thread = threading.Thread(target=other_thread)
    debug_loop.call_soon(thread.start)
    debug_loop.run_forever()
    thread.join()
    assert raised == [
        "Non-thread-safe operation invoked on an event loop other than the current one"
    ]


def test_call_from_another_thread_while_the_loop_does_not_run(debug_loop):
    thread = threading.Thread(target=debug_loop.call_soon, args=(int,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "method, when",
    [("call_soon", ()), ("call_soon_threadsafe", ()), ("call_later", (0,)), ("call_at", (0,))],
)
def test_coroutines_and_non_callables_are_rejected(debug_loop, method, when):
    async def function():
        pass

    call = getattr(debug_loop, method)
    # asyncio's call_later lets call_at check, and name itself in the message.
    name = "(call_later|call_at)" if method == "call_later" else method
    coro = function()
    for rejected in (function, coro):
        with pytest.raises(TypeError, match=rf"coroutines cannot be used with {name}\(\)"):
            call(*when, rejected)
    coro.close()
    with pytest.raises(
        TypeError, match=rf"a callable object was expected by {name}\(\), got 'text'"
    ):
        call(*when, "text")


def test_run_in_executor_rejects_coroutine_functions(debug_loop):
    async def function():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        debug_loop.run_in_executor(None, function)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_source_traceback_ends_at_the_caller(debug_loop, method):
    when = (0,) if method in ("call_later", "call_at") else ()
    handle = getattr(debug_loop, method)(*when, int)
    last = handle._source_traceback[-1]
    assert (last.filename, last.name) == (__file__, sys._getframe().f_code.co_name)
    handle.cancel()


def test_task_source_traceback_ends_at_the_caller(debug_loop):
    async def child():
        pass

    async def main():
        task = debug_loop.create_task(child())
        last = task._source_traceback[-1]
        await task
        return last

    last = debug_loop.run_until_complete(main())
    assert (last.filename, last.name) == (__file__, "main")


def test_future_source_traceback(debug_loop):
    future = debug_loop.create_future()
    assert any(frame.filename == __file__ for frame in future._source_traceback)


def test_origin_tracking_is_on_while_the_loop_runs(debug_loop):
    before = sys.get_coroutine_origin_tracking_depth()

    async def main():
        return sys.get_coroutine_origin_tracking_depth()

    assert debug_loop.run_until_complete(main()) == 10
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_origin_tracking_follows_set_debug_while_running(loop):
    async def main():
        depths = []
        for enabled in (True, False):
            loop.set_debug(enabled)
            await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())
        return depths

    before = sys.get_coroutine_origin_tracking_depth()
    assert loop.run_until_complete(main()) == [10, before]


def test_never_awaited_coroutine_says_where_it_was_created(debug_loop, recwarn):
    async def child():
        pass

    async def main():
        child()

    with pytest.warns(RuntimeWarning, match=r"never awaited[\s\S]*created at"):
        debug_loop.run_until_complete(main())


def test_transport_writes_and_servers_work_in_debug_mode(debug_loop):
    from loopkit import Echo, Recorder, address_of, connect, start_server

    async def main():
        server = await start_server("tcp", Echo)
        transport, protocol = await connect(address_of(server), Recorder)
        transport.write(b"hello")
        assert await protocol.received(5) == b"hello"
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        await protocol.seen("connection_lost")
        server.close()
        await server.wait_closed()

    debug_loop.run_until_complete(main())


def test_blocking_socket_is_refused_by_sock_methods(debug_loop):
    import socket

    with socket.socket() as sock, pytest.raises(ValueError, match="socket must be non-blocking"):
        debug_loop.run_until_complete(debug_loop.sock_recv(sock, 1))


def test_task_destroyed_pending_is_reported(debug_loop, errors):
    import gc

    async def forever():
        await debug_loop.create_future()

    async def main():
        task = debug_loop.create_task(forever())
        await asyncio.sleep(0)
        del task
        gc.collect()

    debug_loop.run_until_complete(main())
    gc.collect()
    context = errors.pop()
    assert context["message"] == "Task was destroyed but it is pending!"
    assert "source_traceback" in context
    context.clear()
    gc.collect()
