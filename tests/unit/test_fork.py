# SPDX-License-Identifier: MIT
"""A forked child and the loop it inherits. Each test forks in an interpreter of its own."""

import pytest

CHILD_MAY_NOT = "the child shares the parent's epoll object and breaks its registrations"


def forked(script, child, parent="", env=None):
    """Run `child` in a forked child while the loop is alive, then `parent`; return the output."""
    code = f"""
    import asyncio, os, socket, sys, warnings
    warnings.simplefilter("ignore")
    loop = factory()
    left, right = socket.socketpair()

    def attempt(name, function):
        try:
            function()
        except RuntimeError as exc:
            print(name, "RuntimeError", bool(str(exc)), flush=True)
        except BaseException as exc:
            print(name, type(exc).__name__, exc, flush=True)
        else:
            print(name, "ok", flush=True)

    def fork(function):
        pid = os.fork()
        if pid == 0:
            try:
                function()
            except BaseException as exc:
                print("child raised", repr(exc), flush=True)
                os._exit(1)
            sys.stdout.flush()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def noop():
        pass

    def child():
{child}

{parent or "    print(fork(child), flush=True)"}
    """
    import textwrap

    lines = textwrap.dedent(code)
    done = script(lines)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.stock_fails(CHILD_MAY_NOT)
@pytest.mark.parametrize(
    "call",
    [
        "loop.call_soon(int)",
        "loop.call_soon_threadsafe(int)",
        "loop.call_later(1, int)",
        "loop.call_at(1, int)",
        "loop.run_forever()",
        "loop.add_reader(left, int)",
        "loop.add_writer(left, int)",
    ],
)
def test_use_in_the_child_is_a_runtime_error(script, call):
    child = f"        attempt('child', lambda: {call})"
    assert forked(script, child) == ["child RuntimeError True", "0"]


@pytest.mark.stock_fails(CHILD_MAY_NOT)
def test_run_until_complete_in_the_child_is_a_runtime_error(script):
    child = """\
        coro = noop()
        attempt('child', lambda: loop.run_until_complete(coro))
        coro.close()"""
    assert forked(script, child) == ["child RuntimeError True", "0"]


@pytest.mark.stock_fails(CHILD_MAY_NOT)
def test_use_in_the_child_while_the_parent_runs_the_loop(script):
    """fork() inside a callback: the child is in the middle of the parent's iteration."""
    child = """\
        attempt('child', lambda: loop.call_soon(int))"""
    parent = """\
    async def main():
        code = fork(child)
        await asyncio.sleep(0.001)
        return code

    print(loop.run_until_complete(main()), flush=True)
    loop.close()"""
    assert forked(script, child, parent) == ["child RuntimeError True", "0"]


@pytest.mark.stock_fails(CHILD_MAY_NOT)
def test_close_and_removal_in_the_child_leave_the_parent_alone(script):
    """The parent's reader and server go on after the child closed its copy of the loop."""
    child = """\
        for call in (lambda: loop.remove_reader(left), lambda: transport.abort(), loop.close):
            try:
                call()
            except RuntimeError:
                pass
        print("child", loop.is_closed(), flush=True)"""
    parent = """\
    transport = None

    class Echo(asyncio.Protocol):
        def connection_made(self, new):
            global transport
            transport = new
        def data_received(self, data):
            transport.write(data)

    async def main():
        got = asyncio.Event()
        loop.add_reader(left, got.set)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"one")
        print((await reader.readexactly(3)).decode(), flush=True)
        # Not inside the running loop: close() is refused there, as everywhere.
        loop.stop()
        await asyncio.sleep(0)
        right.send(b"x")
        await asyncio.wait_for(got.wait(), 10)
        loop.remove_reader(left)
        writer.write(b"two")
        print((await asyncio.wait_for(reader.readexactly(3), 10)).decode(), flush=True)
        writer.close()
        server.close()

    task = loop.create_task(main())
    loop.run_forever()
    print(fork(child), flush=True)
    loop.run_until_complete(task)
    print("parent", task.done(), flush=True)
    loop.close()"""
    assert forked(script, child, parent) == ["one", "child True", "0", "two", "parent True"]


def test_new_loop_in_the_child_works(script):
    child = """\
        with asyncio.Runner(loop_factory=factory) as runner:
            print(runner.run(asyncio.sleep(0.001, "fresh")), flush=True)"""
    assert forked(script, child) == ["fresh", "0"]


def test_new_loop_in_a_child_of_a_running_loop_works(script):
    """What multiprocessing's fork method does under a running loop."""
    child = """\
        asyncio.events._set_running_loop(None)
        with asyncio.Runner(loop_factory=factory) as runner:
            print(runner.run(asyncio.sleep(0.001, "fresh")), flush=True)"""
    parent = """\
    async def main():
        return fork(child)

    print(loop.run_until_complete(main()), flush=True)
    loop.close()"""
    assert forked(script, child, parent) == ["fresh", "0"]


def test_parent_goes_on_after_a_fork(script):
    parent = """\
    async def main():
        code = fork(child)
        await asyncio.to_thread(int)
        await asyncio.sleep(0.001)
        return code

    print(loop.run_until_complete(main()), flush=True)
    loop.close()
    print(loop.is_closed(), flush=True)"""
    assert forked(script, "        pass", parent) == ["0", "True"]
