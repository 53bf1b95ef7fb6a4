# SPDX-License-Identifier: MIT
"""Programs that once crashed hoop, each in an interpreter of its own, named after the bug."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("hoop")


def run(program: str) -> str:
    """Run a program and return what it printed; fail if it died or said something else."""
    # Freed memory is overwritten, or its use may pass unnoticed.
    env = {"PYTHONMALLOC": "debug", **os.environ}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_chain_of_handles_does_not_overflow_the_stack() -> None:
    printed = run(
        """
        import hoop

        loop = hoop.new_event_loop()
        handle = None
        for _ in range(300_000):
            handle = loop.call_later(100, print, handle)
        del handle
        loop.close()
        print("closed")
        """
    )
    assert printed == "closed"


@pytest.mark.parametrize("closes", [True, False])
def test_handles_outlive_the_module_at_exit(closes: bool) -> None:
    printed = run(
        f"""
        import hoop

        loop = hoop.new_event_loop()
        cycle = [loop, loop.call_soon(print), loop.call_later(9, print)]
        cycle.append(cycle)
        if {closes}:
            loop.close()
        print("leaving")
        """
    )
    assert printed == "leaving"


def test_handles_outlive_a_module_that_was_removed() -> None:
    printed = run(
        """
        import gc
        import sys

        import hoop

        loop = hoop.new_event_loop()
        handles = [loop.call_soon(print), loop.call_later(9, print)]
        handles.append(handles)
        loop.close()
        for name in [name for name in sys.modules if name.startswith("hoop")]:
            del sys.modules[name]
        del hoop, loop, handles
        gc.collect()
        gc.collect()
        print("collected")
        """
    )
    assert printed == "collected"


EXHAUSTED = """
    import asyncio
    import os
    import resource
    import socket

    import hoop

    loop = hoop.new_event_loop()
    loop.set_exception_handler(lambda loop, context: print(context["message"]))
    listening = socket.create_server(("127.0.0.1", 0))
    fillers = []

    def exhaust(spare):
        used = max(int(name) for name in os.listdir("/proc/self/fd"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
        return limits

    def fill():
        try:
            while True:
                fillers.append(os.dup(0))
        except OSError:
            pass
    """


def test_listening_socket_closed_while_accept_backs_off() -> None:
    printed = run(
        textwrap.dedent(EXHAUSTED)
        + textwrap.dedent(
            """
            loop.run_until_complete(loop.create_server(asyncio.Protocol, sock=listening))
            client = socket.create_connection(listening.getsockname())
            limits = exhaust(0)
            fill()
            loop.run_until_complete(asyncio.sleep(0.05))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(listening.fileno())
            loop.run_until_complete(asyncio.sleep(0.3))
            print("alive")
            os._exit(os.EX_OK if not os.sys.stdout.flush() else 1)
            """
        )
    )
    lines = printed.splitlines()
    assert lines == ["socket.accept() out of system resource", "cannot listen any more", "alive"]


def test_nested_iteration_backs_off_from_accept_too() -> None:
    printed = run(
        textwrap.dedent(EXHAUSTED)
        + textwrap.dedent(
            """
            calls = []

            def factory():
                calls.append(None)
                if len(calls) == 1:
                    fill()
                    loop._run_once()
                return asyncio.Protocol()

            server = loop.run_until_complete(loop.create_server(factory, sock=listening))
            address = listening.getsockname()
            clients = [socket.create_connection(address) for _ in range(3)]
            limits = exhaust(4)
            loop.run_until_complete(asyncio.sleep(0.05))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for filler in fillers:
                os.close(filler)
            loop.run_until_complete(asyncio.sleep(0.5))
            server.close()
            print(len(calls))
            """
        )
    )
    assert printed.splitlines() == ["socket.accept() out of system resource", "3"]


def test_connection_made_closes_the_loop() -> None:
    printed = run(
        """
        import asyncio
        import socket

        import hoop

        class Closer(asyncio.Protocol):
            def connection_made(self, transport):
                loop.close()

        loop = hoop.new_event_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport = loop._make_socket_transport(ours, Closer(), loop.create_future())
        try:
            loop._run_once()
        except RuntimeError as error:
            print(error)
        """
    )
    assert printed == "Event loop is closed"


@pytest.mark.parametrize("now", ["-5.0", "float('inf')", "float('nan')"])
def test_time_overridden_with_odd_numbers(now: str) -> None:
    printed = run(
        f"""
        import threading

        import hoop

        class Loop(hoop.Loop):
            def time(self):
                return {now}

        loop = Loop()
        loop.call_at(float("inf"), print)
        threading.Timer(0.1, lambda: loop.call_soon_threadsafe(loop.stop)).start()
        loop.run_forever()
        loop.close()
        print("stopped")
        """
    )
    assert printed == "stopped"


def test_callback_that_returns_null_without_an_exception_is_reported() -> None:
    pytest.importorskip("_testcapi")
    printed = run(
        """
        import _testcapi
        import hoop

        loop = hoop.new_event_loop()
        loop.set_exception_handler(lambda loop, context: print(type(context["exception"]).__name__))
        loop.call_soon(_testcapi.return_null_without_error)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        """
    )
    assert printed == "SystemError"


def test_reader_of_a_loop_that_is_collected_unclosed() -> None:
    printed = run(
        """
        import asyncio
        import gc
        import socket

        import hoop


        class Careless(hoop.Loop):
            def __del__(self):
                pass


        for _ in range(20):
            loop = Careless()
            gc.collect()
            left, right = socket.socketpair()
            loop.add_reader(left, loop.stop)
            loop.add_reader(right, [loop])
            loop.me = loop
            loop.call_later(100, loop.stop)
            listening = socket.create_server(("127.0.0.1", 0))
            listening.setblocking(False)
            loop._start_serving(loop.stop, listening)
            serving = socket.create_server(("127.0.0.1", 0))
            coroutine = loop.create_server(loop.stop, sock=serving)
            loop.run_until_complete(coroutine)
            waiting = socket.socketpair()
            waiting[0].setblocking(False)
            task = loop.create_task(loop.sock_recv(waiting[0], 10))
            endpoint = loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            loop.run_until_complete(endpoint)
            gc.freeze()  # puts the handles, which are younger, before the loop
            gc.unfreeze()
            del loop, task, coroutine, endpoint
            gc.collect()
        print("collected")
        """
    )
    assert printed == "collected"


def test_loop_of_a_thread_with_half_a_signal_handler_at_exit() -> None:
    printed = run(
        """
        import threading

        import hoop


        def work():
            try:
                hoop.new_event_loop().add_signal_handler(2, print)
            except RuntimeError as error:
                print("RuntimeError")


        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    )
    assert printed == "RuntimeError"


def test_file_that_removes_its_reader_when_asked_for_its_number() -> None:
    printed = run(
        """
        import socket

        import hoop

        loop = hoop.new_event_loop()
        left, right = socket.socketpair()
        number = left.fileno()


        class File:
            asked = 0

            def fileno(self):
                self.asked += 1
                if self.asked > 1:
                    loop.remove_reader(number)
                    return number + 1
                return number


        for _ in range(2):
            loop.add_reader(File(), print)
            loop.add_reader(left, loop.stop)
            right.send(b"x")
            loop.run_forever()
            loop.remove_reader(left)
        loop.close()
        print("watched")
        """
    )
    assert printed == "watched"


def test_file_that_closes_the_loop_when_asked_for_its_number() -> None:
    printed = run(
        """
        import socket

        import hoop

        loop = hoop.new_event_loop()
        left, right = socket.socketpair()
        number = left.fileno()


        class File:
            asked = 0

            def fileno(self):
                self.asked += 1
                if self.asked > 1:
                    loop.close()
                return number


        loop.add_reader(File(), print)
        try:
            loop.add_reader(left, print)
        except RuntimeError as error:
            print(error)
        """
    )
    assert printed == "Event loop is closed"
