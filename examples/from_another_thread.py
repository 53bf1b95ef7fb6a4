# SPDX-License-Identifier: MIT
"""Asking a loop in another thread, with a timeout

`run_coroutine_threadsafe` hands a coroutine to a loop that runs elsewhere and returns a
future to wait on. Giving up waiting does not stop the coroutine; cancelling the future
does, and the coroutine can clean up.
"""

import asyncio
import threading

import hoop

cleaned_up = threading.Event()


async def answer() -> int:
    await asyncio.sleep(0.05)
    return 42


async def never_answer() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print(f"{threading.current_thread().name}: cancelled, cleaning up")
        cleaned_up.set()
        raise


def main() -> None:
    loop = hoop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop thread")
    thread.start()

    quick = asyncio.run_coroutine_threadsafe(answer(), loop)
    print(f"main thread: the answer is {quick.result(timeout=10)}")

    slow = asyncio.run_coroutine_threadsafe(never_answer(), loop)
    try:
        slow.result(timeout=0.1)
    except TimeoutError:
        print(f"main thread: no answer within 0.1 s, done={slow.done()}")
    slow.cancel()
    cleaned_up.wait()
    print(f"main thread: cancelled={slow.cancelled()}")

    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


if __name__ == "__main__":
    main()
