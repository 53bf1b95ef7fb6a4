# SPDX-License-Identifier: MIT
"""pytest plugin of ecosystem runs: every loop the suite makes is the one under test.

ECOSYSTEM_LOOP says which; ECOSYSTEM_COUNT names a file that gets the number of hoop's loops, so
that a run that bypassed them is noticed.
"""

import asyncio
import os
import pathlib
import warnings

_made = 0


def _count(_loop: asyncio.AbstractEventLoop) -> None:
    global _made
    _made += 1


def pytest_configure() -> None:
    """Put the policy in, before the suite's own plugins make loops."""
    if os.environ["ECOSYSTEM_LOOP"] == "hoop":
        import hoop

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(hoop.EventLoopPolicy(on_loop_created=_count))


def pytest_unconfigure() -> None:
    """Tell how many loops were made."""
    pathlib.Path(os.environ["ECOSYSTEM_COUNT"]).write_text(str(_made))
