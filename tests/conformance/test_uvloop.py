# SPDX-License-Identifier: MIT
"""uvloop's own suite on hoop."""

from collections.abc import Callable

import pytest

from . import suites
from .session import Session


@pytest.mark.parametrize("module", suites.UVLOOP_MODULES)
def test_module(
    uvloop_session: Session, assert_conforms: Callable[[Session, str], None], module: str
) -> None:
    assert_conforms(uvloop_session, module)


def test_all_modules_of_the_suite_are_run(uvloop_session: Session) -> None:
    assert uvloop_session.suite.modules == suites.UVLOOP_MODULES
