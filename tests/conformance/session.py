# SPDX-License-Identifier: MIT
"""A run over many modules, several at a time, and the account of it."""

import platform
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from .suites import Suite
from .verdict import ModuleReport, judge

JOBS = 2
# Modules that take longest, so that they begin first.
SLOW = ("test_tasks", "test_subprocess", "test_tcp", "test_ssl", "test_process", "test_events")


class Session:
    """Judges modules of one suite in the background, `jobs` at a time."""

    def __init__(self, suite: Suite, loop: str, jobs: int = JOBS) -> None:
        self.suite = suite
        self.loop = loop
        self._pool = ThreadPoolExecutor(jobs)
        self._futures: dict[str, Future[ModuleReport]] = {}
        self._started = self._ended = time.monotonic()

    def start(self, modules: Iterable[str]) -> None:
        """Begin with `modules`; those already begun are left alone."""
        rank = {name: number for number, name in enumerate(SLOW)}
        for module in sorted(modules, key=lambda name: rank.get(name, len(rank))):
            if module not in self._futures:
                self._futures[module] = self._pool.submit(self._judge, module)

    def _judge(self, module: str) -> ModuleReport:
        report = judge(self.suite, module, self.loop)
        self._ended = time.monotonic()
        return report

    def report(self, module: str) -> ModuleReport:
        """Wait for the report on one module."""
        self.start([module])
        return self._futures[module].result()

    def completed(self) -> Iterator[ModuleReport]:
        """Yield the reports as they come in."""
        for future in as_completed(self._futures.values()):
            yield future.result()

    def close(self) -> None:
        """Drop what hasn't begun and wait for what has."""
        self._pool.shutdown(cancel_futures=True)

    def summary(self) -> list[str]:
        """What came of all modules that have been judged, in a few lines."""
        ended = [future for future in self._futures.values() if future.done()]
        done = [f.result() for f in ended if not f.cancelled() and f.exception() is None]
        passed = sum(len(report.passed) for report in done)
        on_loop = sum(report.on_loop for report in done)
        failed = [f"{report.suite}:{test}" for report in done for test in report.failed]
        excluded = sum(len(report.excluded) for report in done)
        stock_fails = sum(len(report.stock_fails) for report in done)
        lines = [
            f"{self.suite.name} suite, Python {platform.python_version()}, {self.loop}: "
            f"{passed + len(failed)} counted, {passed} passed ({on_loop} of them made a loop), "
            f"{len(failed)} failed; not counted: {excluded} excluded, "
            f"{stock_fails} that stock fails or skips; {self._ended - self._started:.0f} s"
        ]
        lines += [f"  failed: {test}" for test in failed]
        lines += [
            f"  made a stock loop: {report.suite}:{test}"
            for report in done
            for test in report.strays
        ]
        lines += [f"  excluded, but passes: {entry}" for report in done for entry in report.stale]
        return lines
