# SPDX-License-Identifier: MIT
"""A loop factory that turns on debug mode and logs each loop

The same as debug_policy.py, for the loops you ask for instead of the whole process, and
the way that lasts: a factory carries the options, `asyncio.Runner` and test frameworks
take it as `loop_factory`, and `hoop.run` takes the same options directly.
"""

import asyncio
import logging
import sys
import time

import hoop

log = logging.getLogger("factory")


def created(loop: hoop.Loop) -> None:
    log.info("new hoop loop, debug=%s", loop.get_debug())


def closed(loop: hoop.Loop) -> None:
    log.info("loop closed")


async def main() -> None:
    time.sleep(0.06)  # what a coroutine should never do
    print("main is done")


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s")
    debugging = hoop.loop_factory(
        debug=True, slow_callback=0.05, on_loop_created=created, on_loop_closed=closed
    )
    with asyncio.Runner(loop_factory=debugging) as runner:
        runner.run(main())
    hoop.run(main(), on_loop_created=created, on_loop_closed=closed)
