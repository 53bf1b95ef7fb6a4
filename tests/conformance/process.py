# SPDX-License-Identifier: MIT
"""Run one module of a suite in child processes (`child.py`) and gather the tests' outcomes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .suites import Suite

CHILD = Path(__file__).with_name("child.py")
LOOPS = CHILD.with_name("loops")  # modules that --loop may name
TEST_TIMEOUT = 30.0  # seconds without a test beginning or ending
MODULE_TIMEOUT = 300.0  # seconds for one process
MAX_RESTARTS = 8  # of a module, after a test that hung or took the process down
STDERR_TAIL = 6000  # characters
TIMED_OUT = re.compile(r"^Timeout \(", re.MULTILINE)  # what faulthandler writes, and we


@dataclass(frozen=True)
class Outcome:
    """What became of one test. status: pass, skip, fail, hang, crash or not run."""

    status: str
    detail: str = ""
    seconds: float = 0.0
    loops: int = 0
    stock_loops: int = 0


@dataclass(frozen=True)
class Job:
    """What a child process is asked to do; see `child.py`."""

    package: str
    module: str
    uvloop: bool
    loop: str | None
    only: list[str] | None  # tests and classes; None: all
    done: list[str]  # tests that have run in a former process
    skip: list[str]  # patterns of tests not to run
    test_timeout: float  # seconds
    results: str  # name of the results file


@dataclass
class Transcript:
    """What one child process has told of its run."""

    plan: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    begun: str | None = None  # the test it was in when it ended
    ended: bool = False  # it got to the end
    stderr: str = ""

    def read(self, lines: list[str]) -> None:
        """Take in the results file."""
        scopes: dict[str, Outcome] = {}
        for line in lines:
            match json.loads(line):
                case {"plan": list(tests)}:
                    self.plan = tests
                case {"start": str(test)}:
                    self.begun = test
                case {"test": str(test), "outcome": dict(outcome)}:
                    self.begun = None
                    # Classes that are known by two names run twice; the worse result holds.
                    if test not in self.outcomes or self.outcomes[test].status == "pass":
                        self.outcomes[test] = Outcome(**outcome)
                case {"scope": str(scope), "outcome": dict(outcome)}:
                    scopes[scope] = Outcome(**outcome)
                case {"end": True}:
                    self.ended = True
        for scope, scope_outcome in scopes.items():
            below = [test for test in self.plan if f"{test}.".startswith(f"{scope}.")]
            kept = [test for test in below if test not in self.outcomes]
            # A fixture that failed when its tests had run is known by its own name.
            self.outcomes |= dict.fromkeys(kept or [scope], scope_outcome)

    @property
    def missing(self) -> list[str]:
        """The tests that haven't run."""
        return [test for test in self.plan if test not in self.outcomes]


def run(
    suite: Suite,
    module: str,
    loop: str | None,
    *,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    test_timeout: float = TEST_TIMEOUT,
) -> dict[str, Outcome]:
    """Run `module` on `loop` (a dotted path; None: stock asyncio); return outcomes by test id.

    `only` limits it to some tests or classes; tests that match a pattern of `skip` get the status
    "not run". When a test hangs or takes the process down, the rest of the module runs in a new
    process; after too many of these the module itself has the status "not run".
    """
    outcomes: dict[str, Outcome] = {}
    for _ in range(1 + MAX_RESTARTS):
        job = Job(
            suite.package,
            module,
            suite.uvloop,
            loop,
            None if only is None else list(only),
            list(outcomes),
            list(skip),
            test_timeout,
            "results",
        )
        transcript = _run_child(job, _environment(suite, loop))
        outcomes |= transcript.outcomes
        if transcript.ended:
            return outcomes
        # Between two tests it is the next one's fixtures; before the first, the module itself.
        culprit = transcript.begun or next(iter(transcript.missing), module)
        status = "hang" if TIMED_OUT.search(transcript.stderr) else "crash"
        outcomes[culprit] = Outcome(status, transcript.stderr[-STDERR_TAIL:])
        left = [test for test in transcript.missing if test != culprit]
        if not left:
            return outcomes
    gave_up = f"{len(left)} tests, given up after {MAX_RESTARTS} restarts"
    return outcomes | {module: Outcome("not run", gave_up)}


def _run_child(job: Job, environment: dict[str, str]) -> Transcript:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        job_file, results, stderr = (Path(folder, name) for name in ("job", job.results, "stderr"))
        job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        results.touch()
        work = Path(folder, "work")
        work.mkdir()
        with stderr.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(job_file)],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                process.wait(MODULE_TIMEOUT)
            except subprocess.TimeoutExpired:
                output.write(b"\nTimeout (the whole module)\n")
            finally:
                # The tests may have left processes behind.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        transcript = Transcript(stderr=stderr.read_text(encoding="utf-8", errors="replace"))
        lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
        transcript.read([line for line in lines if line.endswith("\n")])
        return transcript


def _environment(suite: Suite, loop: str | None) -> dict[str, str]:
    environment = os.environ | dict(suite.environment)
    paths = [str(path) for path in (LOOPS, *suite.paths)]
    if inherited := environment.get("PYTHONPATH"):
        paths.append(inherited)
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if loop is not None:
        environment["CONFORMANCE_LOOP"] = loop
    return environment
