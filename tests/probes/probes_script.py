# SPDX-License-Identifier: MIT
"""What needs an interpreter of its own: its exit, signals, standard streams, the environment."""

from probekit import script

script(
    "result", "import asyncio; print(asyncio.Runner(loop_factory=factory).run(asyncio.sleep(0, 5)))"
)
script(
    "exception_leaves",
    """
    import asyncio
    async def main():
        raise ValueError("main")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    """,
)
script(
    "interrupt",
    """
    import asyncio, os, signal
    async def main():
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            print("cancelled")
            raise
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    """,
)
script(
    "exit_in_a_callback",
    """
    import asyncio, sys
    async def main():
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.sleep(10)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    """,
)
script("loop_left_open", "loop = factory(); loop.call_later(5, print)")
script(
    "unhandled_error",
    """
    loop = factory()
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    """,
)
script(
    "pending_task_at_exit",
    """
    import asyncio
    async def main():
        asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0)
    loop = factory()
    loop.run_until_complete(main())
    loop.close()
    """,
)
script(
    "standard_input",
    """
    import asyncio, sys
    async def main():
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, sys.stdout)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(await reader.read())
        writer.write(b"end\\n")
        await writer.drain()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    """,
)
script(
    "debug_from_the_environment",
    """
    import os
    os.environ["PYTHONASYNCIODEBUG"] = "1"
    loop = factory()
    print(loop.get_debug())
    loop.close()
    """,
)
script(
    "signal_handlers_are_given_back",
    """
    import signal
    loop = factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    print(signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGINT).__name__)
    print(signal.set_wakeup_fd(-1))
    """,
)
script(
    "threads",
    """
    import asyncio, threading
    def work(n):
        print(asyncio.Runner(loop_factory=factory).run(asyncio.sleep(0, n)))
        try:
            factory().add_signal_handler(2, print)
        except Exception as exc:
            print(type(exc).__name__, exc)
    for n in range(3):
        thread = threading.Thread(target=work, args=(n,))
        thread.start()
        thread.join()
    """,
)
script(
    "tasks_in_a_thread_pool_at_exit",
    """
    import asyncio, time
    async def main():
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)
        print("leaving")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    print("left")
    """,
)
