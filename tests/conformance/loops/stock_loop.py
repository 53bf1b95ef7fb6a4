# SPDX-License-Identifier: MIT
"""Stock asyncio as a loop under test, for what "stock fails it too" means in uvloop's suite.

It is a subclass of another module because uvloop's tests ask for the module of a loop's type and
let asyncio's own off what they ask of uvloop.
"""

import asyncio


class Loop(asyncio.SelectorEventLoop):
    """asyncio's selector loop, unchanged."""
