# SPDX-License-Identifier: MIT
"""Runs the suites' modules in the background while pytest waits for them one by one.

The environment may name another loop (``HOOP_CONFORMANCE_LOOP``, a dotted path).
"""

import os
from collections.abc import Callable, Iterator

import pytest

from . import suites
from .session import Session

SESSIONS = pytest.StashKey[list[Session]]()


def _session(request: pytest.FixtureRequest, suite: suites.Suite) -> Iterator[Session]:
    loop = os.environ.get("HOOP_CONFORMANCE_LOOP", "hoop:new_event_loop")
    session = Session(suite, loop)
    session.start(
        str(item.callspec.params["module"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and f"{suite.name}_session" in item.fixturenames
    )
    request.config.stash.setdefault(SESSIONS, []).append(session)
    yield session
    session.close()


@pytest.fixture(scope="session")
def cpython_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    yield from _session(request, suites.cpython())


@pytest.fixture(scope="session")
def uvloop_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    yield from _session(request, suites.uvloop())


@pytest.fixture(scope="session")
def assert_conforms() -> Callable[[Session, str], None]:
    """Fail with the tracebacks of whatever counts and doesn't pass in a module."""

    def check(session: Session, module: str) -> None:
        report = session.report(module)
        if report.failed:
            pytest.fail(report.failures(), pytrace=False)
        if report.strays:
            pytest.fail(f"not on the loop under test: {report.strays}", pytrace=False)
        if report.stale:
            pytest.fail(f"excluded, but they pass: {report.stale}", pytrace=False)

    return check


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for session in config.stash.get(SESSIONS, []):
        for line in session.summary():
            terminalreporter.write_line(line)
