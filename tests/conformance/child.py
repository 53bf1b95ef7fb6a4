# SPDX-License-Identifier: MIT
"""Run one module of a foreign test suite on the loop under test, in a process of its own.

``python -P child.py JOB``: JOB is a JSON file with the fields of `process.Job`. What happens is
appended to the file ``job["results"]`` beside it, one JSON object a line:

``{"plan": [id, ...]}``
    the tests about to run, in order; an id is ``module.Class.test``.
``{"start": id}``
    a test begins. One that hangs or takes the process down leaves this line without the next.
``{"test": id, "outcome": {...}}``
    it has ended; the fields are those of `process.Outcome`.
``{"scope": "module.Class", "outcome": {...}}``
    a class or module fixture, or the import, skipped or failed: no test below it ran.
``{"end": true}``
    nothing is left to run.

This file imports nothing of this repository: the suites bring packages named ``tests``.
"""

import asyncio
import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
import unittest
import warnings
from asyncio import unix_events
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TextIO

StockLoop = unix_events._UnixSelectorEventLoop


def resolve(path: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what ``module:attribute`` names."""
    module, _, attribute = path.partition(":")
    found: Callable[[], asyncio.AbstractEventLoop] = getattr(
        importlib.import_module(module), attribute
    )
    return found


class LoopDoor:
    """Takes the place of asyncio's loop class: makes loops under test, and counts them.

    It is an object and not a subclass so that tests get exactly the type that users get; for
    `isinstance` and as a base class it passes for that type.
    """

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.made = 0
        self._factory = factory
        loop = factory()
        self.type = type(loop)
        loop.close()

    def __call__(self, selector: Any = None) -> asyncio.AbstractEventLoop:
        if selector is not None:
            selector.close()
        self.made += 1
        return self._factory()

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.type)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.type)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self.type,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.type, name)


class StockCount:
    """Counts the stock event loops that are made, those of `other` (a subclass) left out."""

    def __init__(self, other: type | None) -> None:
        self.made = 0
        original = StockLoop.__init__

        def counting_init(loop: Any, *args: Any, **kwargs: Any) -> None:
            if other is None or not isinstance(loop, other):
                self.made += 1
            original(loop, *args, **kwargs)

        StockLoop.__init__ = counting_init  # type: ignore[method-assign,assignment]


def default_policy() -> Any:
    """Return the class of asyncio's default policy, without the deprecation warning of 3.14."""
    old, new = "_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"
    return getattr(unix_events, new, None) or getattr(unix_events, old)


def replace_asyncio_doors(door: LoopDoor) -> None:
    """Make every public way to a new asyncio loop lead through `door`."""
    names = [name for name in ("SelectorEventLoop", "EventLoop") if hasattr(asyncio, name)]
    for namespace in (vars(asyncio), vars(unix_events)):
        namespace.update(dict.fromkeys(names, door))
    default_policy()._loop_factory = door
    ways = [asyncio.new_event_loop, default_policy()().new_event_loop]
    for way in [*ways, *(getattr(asyncio, name) for name in names)]:
        loop = way()
        loop.close()
        if type(loop) is not door.type:
            raise SystemExit(f"{way} made a {type(loop)}, not the loop under test")


class RecordingResult(unittest.TestResult):
    """Writes each test's fate to the results file as it becomes known."""

    def __init__(
        self, job: dict[str, Any], file: TextIO, counts: Callable[[], tuple[int, int]]
    ) -> None:
        super().__init__()
        self._file = file
        self._prefix = job["package"] + "."
        self._timeout = job["test_timeout"]
        self._counts = counts
        self._expect_test()

    def write(self, **record: Any) -> None:
        print(json.dumps(record), file=self._file, flush=True)

    def write_scope(self, scope: str, status: str, detail: str) -> None:
        self.write(scope=scope, outcome={"status": status, "detail": detail})

    def test_id(self, test: unittest.TestCase) -> str:
        return test.id().removeprefix(self._prefix)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.write(start=self.test_id(test))
        self.arm()
        self._expect_test()

    def _expect_test(self) -> None:
        self._status, self._detail = "pass", ""
        self._before = self._counts()
        self._started = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        loops, stock = (a - b for a, b in zip(self._counts(), self._before, strict=True))
        outcome = {
            "status": self._status,
            "detail": self._detail,
            "seconds": time.monotonic() - self._started,
            "loops": loops,
            "stock_loops": stock,
        }
        self.write(test=self.test_id(test), outcome=outcome)
        self.arm()
        self._expect_test()  # Python 3.12.1 doesn't announce a test that it skips

    def arm(self) -> None:
        """Give what comes next its time; then every thread's stack goes to stderr and we exit."""
        faulthandler.dump_traceback_later(self._timeout, exit=True)

    def _note(self, test: Any, status: str, detail: str) -> None:
        if isinstance(test, unittest.TestCase):
            if self._status != "fail":
                self._status, self._detail = status, detail
        else:  # a fixture: "setUpClass (package.module.Class)"
            scope = test.id().partition("(")[2].rstrip(")").removeprefix(self._prefix)
            self.write_scope(scope, status, detail)

    def _format(self, test: Any, err: Any) -> str:
        """The traceback without unittest's own frames, as TestResult writes it."""
        super().addError(test, err)
        return self.errors.pop()[1]

    def addError(self, test: Any, err: Any) -> None:
        self._note(test, "fail", self._format(test, err))

    addFailure = addError

    def addSkip(self, test: Any, reason: str) -> None:
        self._note(test, "skip", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._note(test, "fail", "unexpected success")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._note(test, "fail", f"{subtest}\n{self._format(test, err)}")


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        elif isinstance(test, unittest.TestCase):
            yield test


def run(job: dict[str, Any], file: TextIO) -> None:
    """Do what the job says and write the results to `file`."""
    if job["loop"] is None:
        stock_count = StockCount(None)
        result = RecordingResult(job, file, lambda: (0, stock_count.made))
    else:
        door = LoopDoor(resolve(job["loop"]))
        stock_count = StockCount(door.type)
        replace_asyncio_doors(door)
        if job["uvloop"]:
            vars(importlib.import_module("uvloop"))["new_event_loop"] = door
        result = RecordingResult(job, file, lambda: (door.made, stock_count.made))
    result.arm()
    tests: list[unittest.TestCase] = []
    try:
        module = importlib.import_module(f"{job['package']}.{job['module']}")
        tests += flatten(unittest.TestLoader().loadTestsFromModule(module))
    except unittest.SkipTest as skip:
        result.write_scope(job["module"], "skip", str(skip))
    except Exception:
        result.write_scope(job["module"], "fail", traceback.format_exc())
    if job["only"] is not None:
        scopes = tuple(f"{scope}." for scope in job["only"])
        tests = [test for test in tests if f"{result.test_id(test)}.".startswith(scopes)]
    tests = [test for test in tests if result.test_id(test) not in job["done"]]
    result.write(plan=[result.test_id(test) for test in tests])
    for test in tests[:]:
        if any(fnmatchcase(f"{result.test_id(test)}.", f"{name}.*") for name in job["skip"]):
            result.write(test=result.test_id(test), outcome={"status": "not run"})
            tests.remove(test)
    unittest.TestSuite(tests).run(result)
    result.write(end=True)


def main() -> None:
    job_file = Path(sys.argv[1])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    faulthandler.enable()
    warnings.simplefilter("default")
    with job_file.with_name(job["results"]).open("a", encoding="utf-8") as file:
        run(job, file)
    os._exit(0)  # don't wait for threads that the tests have left behind


if __name__ == "__main__":
    main()
