# SPDX-License-Identifier: MIT
"""A policy that turns on debug mode and logs each loop

A policy decides what every `asyncio.run` and `asyncio.new_event_loop` of the process
makes, also in code that never heard of hoop. In debug mode the loop reports callbacks
that hold it up for longer than 0.1 s. Python 3.16 has no policies any more:
debug_factory.py does the same without one.
"""

import asyncio
import logging
import sys
import time
import warnings

import hoop

log = logging.getLogger("policy")


def debugging_policy() -> "hoop.EventLoopPolicy":
    class DebuggingPolicy(hoop.EventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            loop = super().new_event_loop()
            loop.set_debug(True)
            log.info("new %s loop, debug=%s", type(loop).__module__.split(".")[0], loop.get_debug())
            return loop

    return DebuggingPolicy()


async def main() -> None:
    time.sleep(0.15)  # what a coroutine should never do
    print("main is done")


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s")
    if hasattr(hoop, "EventLoopPolicy"):
        warnings.filterwarnings("ignore", "'asyncio.set_event_loop_policy'")  # 3.14 and 3.15
        asyncio.set_event_loop_policy(debugging_policy())
        asyncio.run(main())
        asyncio.new_event_loop().close()
    else:
        print("skipped: this Python has no event loop policies, see debug_factory.py")
