# SPDX-License-Identifier: MIT
"""Judge the outcomes of a module: which tests count, and which of these failed.

A test counts unless the list of exclusions names it, or stock asyncio doesn't pass it either in
this interpreter and on this machine. To know the latter, whatever doesn't pass on the loop under
test is run again on stock.
"""

import time
from dataclasses import dataclass, field

from . import exclusions
from .process import TEST_TIMEOUT, Outcome, run
from .suites import Suite


@dataclass
class ModuleReport:
    """The verdicts on one module; the mappings go from a test's id to its outcome."""

    suite: str
    module: str
    passed: dict[str, Outcome] = field(default_factory=dict)
    failed: dict[str, Outcome] = field(default_factory=dict)
    excluded: dict[str, Outcome] = field(default_factory=dict)
    stock_fails: dict[str, Outcome] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)  # exclusions that are no longer needed
    passed_again: set[str] = field(default_factory=set)  # failed, then passed without the others
    seconds: float = 0.0

    @property
    def on_loop(self) -> int:
        """How many of the passed tests made a loop under test."""
        return sum(outcome.loops > 0 for outcome in self.passed.values())

    @property
    def strays(self) -> list[str]:
        """Counted tests that made a stock event loop: the loop under test didn't reach them."""
        counted = self.passed | self.failed
        return [test for test, outcome in counted.items() if outcome.stock_loops]

    def failures(self) -> str:
        """The failed tests with their tracebacks; empty if there are none."""
        parts = []
        for test, outcome in self.failed.items():
            note = " (passed when run again)" if test in self.passed_again else ""
            parts.append(f"{self.suite}:{test}: {outcome.status}{note}\n{outcome.detail.rstrip()}")
        return "\n\n".join(parts)


def judge(suite: Suite, module: str, loop: str, test_timeout: float = TEST_TIMEOUT) -> ModuleReport:
    """Run `module` on `loop`, and on stock what didn't pass, and sort the tests."""
    started = time.monotonic()
    entries = [entry for entry in exclusions.load(suite.name) if entry.concerns(module)]
    report = ModuleReport(suite.name, module)
    skip = [entry.pattern for entry in entries if entry.skip]
    outcomes = run(suite, module, loop, skip=skip, test_timeout=test_timeout)
    report.stale = _stale(entries, outcomes)
    suspects = {}
    for test, outcome in outcomes.items():
        if any(entry.matches(test) for entry in entries):
            report.excluded[test] = outcome
        elif outcome.status == "pass":
            report.passed[test] = outcome
        elif outcome.status == "not run":
            report.failed[test] = outcome
        else:
            suspects[test] = outcome
    if suspects:
        stock = run(suite, module, suite.stock, only=suspects, test_timeout=test_timeout)
        for test, outcome in suspects.items():
            # Fixtures and imports are known by name only if they fail.
            works = test not in stock or stock[test].status == "pass"
            (report.failed if works else report.stock_fails)[test] = outcome
    if doubtful := [test for test, outcome in report.failed.items() if outcome.status == "fail"]:
        again = run(suite, module, loop, only=doubtful, test_timeout=test_timeout)
        report.passed_again = {test for test, outcome in again.items() if outcome.status == "pass"}
    report.seconds = time.monotonic() - started
    return report


def _stale(entries: list[exclusions.Exclusion], outcomes: dict[str, Outcome]) -> list[str]:
    stale = []
    for entry in entries:
        matched = {outcome.status for test, outcome in outcomes.items() if entry.matches(test)}
        if matched == {"pass"}:
            stale.append(str(entry))
    return stale
