# SPDX-License-Identifier: MIT
"""Fixtures that run each test on stock asyncio (the oracle) and on hoop.

A test that takes `loop`, `loop_factory` or `loop_name` runs once per loop. An `async def` test
runs on its `loop` fixture. After each such test nothing may be left: descriptors, tasks, calls of
an exception handler, unraisable exceptions, or warnings. A test that provokes exception-handler
calls takes the `errors` list and empties it; `unraisable` is the same for unraisable exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import loopkit
import pytest

PASSED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=loopkit.LOOP_NAMES,
        help="run only on this event loop (default: on both)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "stock_fails(reason, since=None, before=None): stock asyncio of these Python versions "
        "doesn't satisfy the test, so it runs on hoop only",
    )
    config.addinivalue_line(
        "markers", "since(version, what): needs a feature that asyncio has since `version`"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_name" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--loop")
    params = []
    for name in loopkit.LOOP_NAMES if chosen is None else (chosen,):
        marks = []
        if name == "hoop" and importlib.util.find_spec("hoop") is None:
            marks.append(pytest.mark.skip(reason="hoop is not installed"))
        for mark in metafunc.definition.iter_markers("stock_fails"):
            since = mark.kwargs.get("since") or (3,)
            before = mark.kwargs.get("before") or (4,)
            if name == "asyncio" and since <= sys.version_info[:3] < before:
                marks.append(pytest.mark.skip(reason=f"stock asyncio: {mark.args[0]}"))
        params.append(pytest.param(name, marks=marks))
    metafunc.parametrize("loop_name", params)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("since"):
            version, what = mark.args
            if sys.version_info < version:
                reason = f"{what} came with Python {'.'.join(map(str, version))}"
                item.add_marker(pytest.mark.skip(reason=reason))
        if "loop_name" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)
            if config.pluginmanager.hasplugin("timeout") and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(60, method="thread"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test to completion on its loop."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function) or "loop" not in pyfuncitem.funcargs:
        return None
    args = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}
    run_on(pyfuncitem.funcargs["loop"], function(**args))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def run_on(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(coro, loopkit.TIMEOUT))


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor, a thread's or an unraisable exception behind."""
    if "loop_name" not in request.fixturenames:
        yield
        return
    unraised: list[str] = request.getfixturevalue("unraisable")
    before = loopkit.open_fds()
    gc.freeze()  # the collection below then walks only what the test has made
    yield
    if not request.node.stash.get(PASSED, False):
        return  # the failure's traceback keeps things alive
    gc.collect()
    left = {fd: what for fd, what in loopkit.open_fds().items() if before.get(fd) != what}
    assert not left, f"descriptors left open: {left}"
    assert not unraised, f"unraisable exceptions: {unraised}"


@pytest.fixture
def unraisable() -> Iterator[list[str]]:
    """Unraisable exceptions so far, as text; exceptions that ended a thread too."""
    seen: list[str] = []
    saved = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda u: seen.append(f"{u.err_msg or ''} {u.object!r}: {u.exc_value!r}")
    threading.excepthook = lambda a: seen.append(f"{a.thread}: {a.exc_value!r}")
    try:
        yield seen
    finally:
        sys.unraisablehook, threading.excepthook = saved


@pytest.fixture
def errors() -> Iterator[list[dict[str, Any]]]:
    """Contexts given to the exception handler of the test's loops."""
    contexts: list[dict[str, Any]] = []
    yield contexts
    left = [f"{c['message']}: {c.get('exception')!r}" for c in contexts]
    contexts.clear()
    assert not left, f"unexpected calls of the exception handler: {left}"


@pytest.fixture
def raw_loop_factory(loop_name: str) -> Callable[..., Any]:
    """The loop class or callable itself."""
    return loopkit.factory_of(loop_name)


@pytest.fixture
def loop_factory(
    raw_loop_factory: Callable[..., Any], errors: list[dict[str, Any]]
) -> Iterator[Callable[..., Any]]:
    """Makes loops that report to `errors`, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> asyncio.AbstractEventLoop:
            loop: asyncio.AbstractEventLoop = raw_loop_factory(**options)
            loop.set_exception_handler(lambda _, context: errors.append(context))
            stack.callback(loop.close)
            return loop

        yield make


@pytest.fixture
def loop(loop_factory: Callable[..., Any]) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that isn't running; tasks must be finished when the test ends."""
    loop = loop_factory()
    yield loop
    if loop.is_closed():
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_default_executor())
    # One more round for what the last callbacks scheduled (transports that close).
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not tasks, f"tasks left running: {tasks}"


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on the loop, with a limit for hangs."""
    return functools.partial(run_on, loop)


@pytest.fixture
def script(loop_name: str) -> Callable[..., Any]:
    """run_script of loopkit with the loop under test."""
    return functools.partial(loopkit.run_script, loop_name)


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """The address family of a test's connections."""
    return request.param


@pytest.fixture(params=["server", "client"])
def role(request: pytest.FixtureRequest) -> str:
    """Which side of the connection the transport under test plays."""
    return request.param


@pytest.fixture
def connection(kind: str, role: str) -> Callable[..., Any]:
    """loopkit.connection for each kind and role."""
    return functools.partial(loopkit.connection, kind, role)


@pytest.fixture
def any_connection() -> Callable[..., Any]:
    """loopkit.connection of one kind and role, for what can't depend on them."""
    return functools.partial(loopkit.connection, "tcp", "server")
