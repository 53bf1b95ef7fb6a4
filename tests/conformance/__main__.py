# SPDX-License-Identifier: MIT
"""``python -m tests.conformance``: run the suites and print what came of it."""

import argparse
import sys
from fnmatch import fnmatchcase

from . import suites
from .session import JOBS, Session
from .verdict import ModuleReport


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="patterns, e.g. 'test_s*'")
    parser.add_argument("--suite", choices=["cpython", "uvloop"], help="only this suite")
    parser.add_argument("--loop", default="hoop:new_event_loop", help="default: %(default)s")
    parser.add_argument("-j", "--jobs", type=int, default=JOBS, help="default: %(default)s")
    parser.add_argument("-v", "--verbose", action="store_true", help="name what doesn't count")
    return parser.parse_args()


def show(report: ModuleReport, verbose: bool) -> None:
    print(
        f"{report.suite} {report.module}: {len(report.passed)} passed ({report.on_loop} on the "
        f"loop), {len(report.failed)} failed, {len(report.excluded)} excluded, "
        f"{len(report.stock_fails)} that stock fails or skips, {report.seconds:.1f} s",
        flush=True,
    )
    if report.failed:
        print(report.failures())
    if verbose:
        for kind, tests in (("excluded", report.excluded), ("stock fails", report.stock_fails)):
            for test, outcome in tests.items():
                reason = (outcome.detail.strip().splitlines() or [""])[-1]
                print(f"  {kind}: {test}: {outcome.status}: {reason}")


def main() -> int:
    arguments = parse_arguments()
    failed = False
    summaries = []
    for name in [arguments.suite] if arguments.suite else ["cpython", "uvloop"]:
        try:
            suite = getattr(suites, name)()
        except suites.SuiteUnavailable as error:
            summaries.append(f"{name} suite: not run: {error}")
            failed = True
            continue
        session = Session(suite, arguments.loop, arguments.jobs)
        patterns = arguments.modules or ["*"]
        session.start(
            module
            for module in suite.modules
            if any(fnmatchcase(module, pattern) for pattern in patterns)
        )
        try:
            for report in session.completed():
                show(report, arguments.verbose)
                failed = failed or bool(report.failed or report.strays or report.stale)
        finally:
            session.close()
        summaries += session.summary()
    print("", *summaries, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
