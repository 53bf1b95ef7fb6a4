# SPDX-License-Identifier: MIT
"""hoop: a drop-in asyncio event loop for CPython, written in C.

    import hoop
    hoop.run(main())

or `loop_factory=hoop.new_event_loop` wherever asyncio takes one.
"""

from typing import TYPE_CHECKING, Any

from hoop._loop import Loop
from hoop._run import LoopFactory, loop_factory, run

if TYPE_CHECKING:
    from hoop._policy import EventLoopPolicy as EventLoopPolicy
    from hoop._policy import install as install

__all__ = ["Loop", "LoopFactory", "install", "loop_factory", "new_event_loop", "run"]

#: Makes a loop; the class itself, so that it works as a class attribute too.
#: Counterpart of `asyncio.new_event_loop`; takes the options of `hoop.Loop`.
new_event_loop = Loop


def __getattr__(name: str) -> Any:
    """Import the policy, which newer Pythons deprecate or lack, only for who asks for it."""
    if name in {"EventLoopPolicy", "install"}:
        from hoop import _policy

        if hasattr(_policy, name):
            return getattr(_policy, name)
        raise AttributeError(
            f"module 'hoop' has no attribute {name!r}: this Python's asyncio has no event loop "
            f"policies, use loop_factory=hoop.new_event_loop"
        )
    raise AttributeError(f"module 'hoop' has no attribute {name!r}")
