# SPDX-License-Identifier: MIT
"""Signal handlers of the loop, and Ctrl-C."""

import asyncio
import os
import signal
import threading
import time

import pytest
from loopkit import open_fds, start_script


def kill(signum):
    os.kill(os.getpid(), signum)


async def test_add_signal_handler(loop):
    seen = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, seen.put_nowait, 1)
    kill(signal.SIGUSR1)
    assert await seen.get() == 1
    kill(signal.SIGUSR1)
    assert await seen.get() == 1
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


async def test_handler_is_replaced(loop):
    seen = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, pytest.fail)
    loop.add_signal_handler(signal.SIGUSR1, seen.put_nowait, "second")
    kill(signal.SIGUSR1)
    assert await seen.get() == "second"
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_several_signals(loop):
    seen = []
    done = asyncio.Event()

    def handler(name):
        seen.append(name)
        if len(seen) == 3:
            done.set()

    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    for number in numbers:
        loop.add_signal_handler(number, handler, number)
    for number in numbers:
        kill(number)
    await done.wait()
    assert sorted(seen) == sorted(numbers)
    for number in numbers:
        loop.remove_signal_handler(number)


async def test_signal_wakes_an_idle_loop(loop):
    seen = asyncio.Queue()
    loop.add_signal_handler(signal.SIGALRM, seen.put_nowait, "alarm")
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    assert await seen.get() == "alarm"
    loop.remove_signal_handler(signal.SIGALRM)


async def test_signal_from_another_thread(loop):
    seen = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, seen.put_nowait, 1)
    thread = threading.Thread(target=kill, args=(signal.SIGUSR1,))
    thread.start()
    assert await seen.get() == 1
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_handler_that_raises_is_reported(loop, errors):
    done = asyncio.Event()

    def fail():
        done.set()
        raise ValueError("in the handler")

    loop.add_signal_handler(signal.SIGUSR1, fail)
    kill(signal.SIGUSR1)
    await done.wait()
    await asyncio.sleep(0)
    assert isinstance(errors.pop()["exception"], ValueError)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_stop_by_a_signal(loop):
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    loop.call_soon(kill, signal.SIGTERM)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGTERM)


async def test_python_handlers_run_while_the_loop_waits(loop):
    """A plain signal.signal() handler runs at once, not when the loop wakes for other reasons."""
    ran = asyncio.Event()
    stamps = []

    def handler(*_):
        stamps.append(time.monotonic())
        loop.call_soon_threadsafe(ran.set)

    saved = signal.signal(signal.SIGALRM, handler)
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        await asyncio.wait_for(ran.wait(), 20)
        assert stamps[0] - start < 10
    finally:
        signal.signal(signal.SIGALRM, saved)


def test_exception_of_a_python_handler_leaves_the_loop(loop):
    class Leave(Exception):
        pass

    def handler(*_):
        raise Leave

    saved = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.call_later(20, loop.stop)
        with pytest.raises(Leave):
            loop.run_forever()
        assert not loop.is_running()
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    finally:
        signal.signal(signal.SIGALRM, saved)


async def test_interrupted_wait_is_resumed(loop):
    """A signal whose handler returns doesn't end a sleep early."""
    saved = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        start = time.monotonic()
        await asyncio.sleep(0.05)
        assert time.monotonic() - start >= 0.05
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, saved)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_uncatchable_signals_are_refused(loop, signum):
    with pytest.raises(RuntimeError, match=f"sig {int(signum)} cannot be caught"):
        loop.add_signal_handler(signum, int)


async def test_bad_arguments(loop):
    with pytest.raises(ValueError):
        loop.add_signal_handler(10_000, int)
    with pytest.raises(ValueError):
        loop.remove_signal_handler(10_000)
    with pytest.raises(TypeError):
        loop.add_signal_handler("SIGUSR1", int)

    async def coroutine_function():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)


def test_another_thread_may_not_add_handlers(loop):
    raised = []

    def other_thread():
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
        except (ValueError, RuntimeError) as exc:
            raised.append(exc)

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_wakeup_fd_is_restored(raw_loop_factory):
    before = open_fds()
    loop = raw_loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGUSR2, int)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    assert open_fds() == before


def test_storm_of_signals(loop):
    """The wake-up socket is drained: its buffer never stays full."""
    count = 0

    def handler():
        nonlocal count
        count += 1

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, handler)
        for _ in range(100):
            before = count
            for _ in range(100):
                kill(signal.SIGUSR1)
            while count == before:
                await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(asyncio.wait_for(main(), 20))


def interrupt_when_ready(process):
    """Send SIGINT once the script has printed a line and blocks in its wait."""
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=20)
    except BaseException:
        process.kill()
        process.communicate()
        raise


@pytest.mark.parametrize(
    "wait", ["asyncio.sleep(60)", "asyncio.get_running_loop().create_future()"]
)
def test_ctrl_c_cancels_the_main_task(loop_name, wait):
    """Under asyncio.Runner: first CancelledError in the main task, then KeyboardInterrupt.

    The second wait has nothing else in the loop: no timer, no descriptor.
    """
    process = start_script(
        loop_name,
        f"""
        import asyncio

        async def main():
            print("ready", flush=True)
            try:
                await {wait}
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise

        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
    )
    out, err = interrupt_when_ready(process)
    assert (out, err, process.returncode) == ("cancelled\ninterrupted\n", "", 0)


def test_ctrl_c_leaves_run_forever(loop_name):
    process = start_script(
        loop_name,
        """
        loop = factory()
        loop.call_soon(lambda: print("ready", flush=True))
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", loop.is_running(), flush=True)
        loop.close()
        """,
    )
    out, err = interrupt_when_ready(process)
    assert (out, err, process.returncode) == ("interrupted False\n", "", 0)


def test_ctrl_c_in_a_busy_loop(loop_name):
    process = start_script(
        loop_name,
        """
        loop = factory()
        def again():
            loop.call_soon(again)
        loop.call_soon(again)
        print("ready", flush=True)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        loop.close()
        """,
    )
    out, err = interrupt_when_ready(process)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


def test_ctrl_c_handled_by_the_loop(loop_name):
    process = start_script(
        loop_name,
        """
        import asyncio, signal

        async def main():
            done = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, done.set)
            print("ready", flush=True)
            await done.wait()
            print("graceful", flush=True)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        """,
    )
    out, err = interrupt_when_ready(process)
    assert (out, err, process.returncode) == ("graceful\n", "", 0)


def test_second_ctrl_c_interrupts_a_main_task_that_ignores_the_first(loop_name):
    process = start_script(
        loop_name,
        """
        import asyncio

        async def main():
            print("ready", flush=True)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("ignored", flush=True)
                await asyncio.sleep(60)

        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ignored\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("interrupted\n", 0)
