# SPDX-License-Identifier: MIT
"""CPython's test_asyncio and uvloop's own suite, run on the loop under test."""
