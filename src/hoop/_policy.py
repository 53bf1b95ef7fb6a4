# SPDX-License-Identifier: MIT
"""The event loop policy: hoop loops for code that cannot be given a loop factory.

Python 3.14 deprecated asyncio's policies and 3.16 removes them. Where they are gone there
is no `EventLoopPolicy` here, and `install()` says what to use instead.
"""

import asyncio
import sys
import warnings
from typing import TYPE_CHECKING, Any, Unpack

from hoop._loop import LoopOptions
from hoop._run import LoopFactory

HAS_POLICIES = hasattr(asyncio, "set_event_loop_policy")

_INSTEAD = "hoop.run(main()) or asyncio.Runner(loop_factory=hoop.loop_factory())"

if TYPE_CHECKING or HAS_POLICIES:
    if sys.version_info >= (3, 14):
        # Under its public name the class warns when it is looked up.
        from asyncio.unix_events import _DefaultEventLoopPolicy as DefaultEventLoopPolicy
    else:
        from asyncio import DefaultEventLoopPolicy

    class EventLoopPolicy(DefaultEventLoopPolicy):
        """asyncio's default policy of the running Python, making hoop loops.

        The options are those of `hoop.Loop` and hold for every loop the policy makes.
        Raises TypeError for an option that does not exist.
        """

        def __init__(self, **loop_options: Unpack[LoopOptions]) -> None:
            super().__init__()
            self._hoop_factory = LoopFactory(**loop_options)

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            """Return a new hoop loop; `set_event_loop` makes it the current one."""
            return self._hoop_factory()


def install() -> None:
    """Make hoop loops the default of this process, by setting the global policy.

    Warns with DeprecationWarning from Python 3.14 on, as `asyncio.set_event_loop_policy`
    does. Raises RuntimeError where asyncio has no policies.
    """
    if not HAS_POLICIES:
        raise RuntimeError(f"asyncio has no event loop policies any more: use {_INSTEAD}")
    if sys.version_info >= (3, 14):
        warnings.warn(
            f"hoop.install() sets an event loop policy, which Python 3.16 removes: use {_INSTEAD}",
            DeprecationWarning,
            stacklevel=2,
        )
    set_policy_quietly(EventLoopPolicy())


def set_policy_quietly(policy: "EventLoopPolicy") -> None:
    """Set the global policy without asyncio's DeprecationWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def __getattr__(name: str) -> Any:
    if name == "EventLoopPolicy":
        raise AttributeError(
            f"no hoop.EventLoopPolicy: asyncio has no event loop policies any more, use {_INSTEAD}"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
