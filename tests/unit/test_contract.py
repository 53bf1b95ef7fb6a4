# SPDX-License-Identifier: MIT
"""The contract with the ecosystem: the lines of it that no other file of this folder shows.

Where the others are: `call_soon` overrides and task factories in test_tasks.py; handles in
test_callbacks.py and test_timers.py; close, unclosed loops and `_run_until_complete_cb` in
test_lifecycle.py; debug mode in test_debug.py; protocols that raise in test_transport_errors.py;
descriptors in test_readers.py; fork in test_fork.py; attributes of transports and servers in
test_transport_info.py and test_server.py.
"""

import asyncio
import inspect
import subprocess
import sys
import unittest

import pytest
from loopkit import Echo, Recorder, address_of, connect, start_script, start_server


def test_factory_works_as_a_class_attribute(raw_loop_factory):
    """It doesn't bind to the instance: IsolatedAsyncioTestCase.loop_factory is one."""

    class Holder:
        loop_factory = raw_loop_factory

    loop = Holder().loop_factory()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.close()


@pytest.mark.since((3, 13), "IsolatedAsyncioTestCase.loop_factory")
def test_unittest_loop_factory(raw_loop_factory):
    seen = []

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = raw_loop_factory

        async def test_loop(self):
            seen.append(type(asyncio.get_running_loop()))
            await asyncio.sleep(0)

    result = unittest.TestResult()
    unittest.TestLoader().loadTestsFromTestCase(Case).run(result)
    assert result.wasSuccessful(), result.errors
    made = raw_loop_factory()
    assert seen == [type(made)]
    made.close()


def test_loop_class_can_be_imported_by_path(loop_name):
    if loop_name == "asyncio":
        pytest.skip("about the names of hoop")
    import hoop

    assert inspect.isclass(hoop.Loop)
    assert issubclass(hoop.Loop, asyncio.SelectorEventLoop)
    loop = hoop.new_event_loop()
    assert type(loop) is hoop.Loop
    loop.close()


def test_factory_takes_no_arguments(raw_loop_factory):
    raw_loop_factory().close()


def test_subclasses_of_the_loop_may_take_arguments(raw_loop_factory):
    class Named(raw_loop_factory):
        def __init__(self, name):
            super().__init__()
            self.name = name

    loop = Named("n")
    assert loop.name == "n"
    loop.close()


def test_attributes_of_the_loop_are_settable(loop):
    """Tools patch methods and hang their data on loops."""
    loop.anything = 1
    assert loop.anything == 1
    for name in ("call_soon", "add_reader", "create_connection", "run_in_executor", "getaddrinfo"):
        original = getattr(loop, name)
        setattr(loop, name, original)
        assert vars(loop)[name] is original
        delattr(loop, name)
        assert name not in vars(loop)


def test_patched_methods_are_used_by_the_loop_itself(loop):
    """aiofastnet replaces create_connection, sock_connect and others on the instance."""
    calls = []

    def record(name):
        original = getattr(loop, name)

        def wrapper(*args, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)

        setattr(loop, name, wrapper)

    for name in ("sock_connect", "getaddrinfo", "run_in_executor", "create_connection"):
        record(name)

    async def main():
        server = await start_server("tcp", Echo)
        _, writer = await asyncio.open_connection("localhost", address_of(server)[1])
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert {"sock_connect", "getaddrinfo", "run_in_executor", "create_connection"} <= set(calls)


def test_no_blocking_call_while_the_loop_runs(script):
    """blockbuster raises where a Python frame blocks under a running loop."""
    pytest.importorskip("blockbuster")
    done = script(
        """
        import asyncio, os
        from blockbuster import blockbuster_ctx
        from loopkit import Echo, Recorder, connect, address_of

        async def main():
            loop = asyncio.get_running_loop()
            for make in (
                lambda: loop.create_server(Echo, "127.0.0.1", 0),
                lambda: loop.create_unix_server(Echo, f"\\0hoop-blockbuster-{os.getpid()}"),
            ):
                server = await make()
                transport, protocol = await connect(address_of(server), Recorder)
                transport.write(b"x" * 1_000_000)
                await protocol.received(1_000_000)
                transport.get_extra_info("peername")
                transport.close()
                await protocol.seen("connection_lost")
                server.close()
                await server.wait_closed()
            await asyncio.to_thread(int)
            await asyncio.sleep(0.001)
            print("clean")

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop()
            with blockbuster_ctx():
                runner.run(main())
        """,
        python_args=("-u",),  # flushing stdout at exit crashes in what blockbuster leaves behind
    )
    assert (done.stdout, done.returncode) == ("clean\n", 0), done.stderr


@pytest.mark.since((3, 14), "asyncio ps and pstree")
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_asyncio_ps(loop_name, command):
    process = start_script(
        loop_name,
        """
        import asyncio

        async def named_coroutine():
            print("ready", flush=True)
            await asyncio.sleep(60)

        async def main():
            await asyncio.create_task(named_coroutine(), name="named-task")

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        """,
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            done = subprocess.run(
                [sys.executable, "-m", "asyncio", command, str(process.pid)],
                capture_output=True,
                text=True,
                timeout=20,
            )
        finally:
            process.kill()
    if "permission" in done.stderr.lower():
        pytest.skip("this system doesn't let a process read another's memory")
    assert done.returncode == 0, done.stderr
    assert "named-task" in done.stdout
    assert "named_coroutine" in done.stdout


@pytest.mark.since((3, 14), "capture_call_graph")
async def test_capture_call_graph(loop):
    async def inner():
        return asyncio.capture_call_graph()

    async def outer():
        return await inner()

    graph = await loop.create_task(outer())
    names = [entry.frame.f_code.co_name for entry in graph.call_stack]
    assert names[:2] == ["inner", "outer"]


NETWORK_METHODS = [
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "connect_accepted_socket",
    "create_datagram_endpoint",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_exec",
    "subprocess_shell",
    "start_tls",
    "sendfile",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "getaddrinfo",
    "getnameinfo",
]


@pytest.mark.parametrize("name", NETWORK_METHODS)
def test_nothing_is_left_unimplemented(loop, name):
    """No method of the abstract loop is inherited from AbstractEventLoop."""
    assert getattr(type(loop), name) is not getattr(asyncio.AbstractEventLoop, name)


def test_no_public_method_of_the_abstract_loop_is_missing(loop):
    abstract = vars(asyncio.AbstractEventLoop)
    missing = [
        name
        for name, value in abstract.items()
        if callable(value)
        and not name.startswith("__")
        and getattr(type(loop), name, value) is value
    ]
    assert missing == []


def test_public_signatures_have_every_parameter_of_asyncio(loop):
    """Read through inspect.signature, as tools and type checkers do."""
    wrong = {}
    for name, stock in inspect.getmembers(asyncio.SelectorEventLoop, callable):
        if name.startswith("_"):
            continue
        try:
            mine = inspect.signature(getattr(type(loop), name))
        except ValueError:
            wrong[name] = "no signature"
            continue
        expected = inspect.signature(stock)
        if not expected.parameters.keys() <= mine.parameters.keys():
            wrong[name] = f"{mine} instead of {expected}"
    assert wrong == {}


async def test_transport_and_protocol_of_a_stream_are_reachable(loop):
    """Libraries take the transport out of a StreamWriter and swap protocols."""
    server = await start_server("tcp", Echo)
    reader, writer = await asyncio.open_connection(*address_of(server))
    transport = writer.transport
    assert transport.get_protocol() is writer._protocol
    other = Recorder()
    transport.set_protocol(other)
    transport.write(b"x")
    await other.received(1)
    assert not reader._buffer
    transport.set_protocol(writer._protocol)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_sendfile_through_a_transport(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    server = await start_server("tcp", Echo)
    transport, protocol = await connect(address_of(server), Recorder)
    with path.open("rb") as file:
        assert await loop.sendfile(transport, file) == 256_000
        assert await loop.sendfile(transport, file, 1000, 500) == 500
    data = await protocol.received(256_500)
    assert data == path.read_bytes() + path.read_bytes()[1000:1500]
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()
