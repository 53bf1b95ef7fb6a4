# SPDX-License-Identifier: MIT
"""CPython's own ``test.test_asyncio``, the running interpreter's, on hoop."""

from collections.abc import Callable

import pytest

from . import suites
from .session import Session

try:
    MODULES = suites.cpython().modules
except suites.SuiteUnavailable as unavailable:
    pytest.skip(str(unavailable), allow_module_level=True)


@pytest.mark.parametrize("module", MODULES)
def test_module(
    cpython_session: Session, assert_conforms: Callable[[Session, str], None], module: str
) -> None:
    assert_conforms(cpython_session, module)
