# SPDX-License-Identifier: MIT
"""Other projects' own test suites on stock asyncio and on hoop: what passes there passes here.

usage: python tests/ecosystem/run.py [SUITE ...]

Run by an interpreter that has hoop. Each suite is the project's source distribution, unchanged, in
build/ecosystem with an environment of its own. A test that passes on stock asyncio and not on hoop
is run again on both before it counts; the exit status is the number of suites with such tests.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent / "build" / "ecosystem"


@dataclass
class Suite:
    """A project's suite: which version, what it needs, how it is called."""

    name: str
    version: str
    requirements: list[str]
    arguments: list[str]
    needs_redis: bool = False
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)


REDIS_FILES = (
    "commands",
    "connect",
    "connection",
    "connection_pool",
    "cwe_404",
    "encoding",
    "lock",
    "monitor",
    "pipeline",
    "pubsub",
    "retry",
    "scripting",
)
SUITES = [
    Suite(
        "httpx",
        "0.28.1",
        ["pytest>=8,<9", "pytest-timeout", "anyio>=4", "uvicorn", "trio", "trustme", "chardet"],
        ["tests", "-m", "not network", "-p", "no:warnings"],
    ),
    Suite(
        "redis",
        "8.1.0",
        [
            "pytest>=8,<9",
            "pytest-timeout",
            "pytest-asyncio>=0.24",
            "numpy",
            "pybreaker",
            "coverage",
        ],
        # One plain server: no cluster, sentinels, modules, TLS or credentials of a cloud.
        [
            *(f"tests/test_asyncio/test_{name}.py" for name in REDIS_FILES),
            *("-m", "not onlycluster and not redismod and not ssl", "-q"),
        ],
        needs_redis=True,
    ),
]
EXTRAS = {"httpx": "[brotli,cli,http2,socks,zstd]", "redis": "[jwt]"}


def prepare(suite: Suite) -> tuple[pathlib.Path, pathlib.Path]:
    """Fetch source and environment, if not there yet: (source, its Python)."""
    source = ROOT / f"{suite.name}-{suite.version}"
    if not source.exists():
        download = [sys.executable, "-m", "pip", "-q", "download", "--no-binary", suite.name]
        subprocess.check_call(
            [*download, "--no-deps", f"{suite.name}=={suite.version}", "-d", str(ROOT)]
        )
        with tarfile.open(ROOT / f"{source.name}.tar.gz") as archive:
            archive.extractall(ROOT, filter="data")
    venv = ROOT / f"venv-{suite.name}-{sysconfig.get_config_var('SOABI')}"
    python = venv / "bin" / "python"
    if not (venv / ".ready").exists():
        subprocess.check_call([sys.executable, "-m", "venv", str(venv)])
        what = [f"{source}{EXTRAS.get(suite.name, '')}", *suite.requirements]
        subprocess.check_call([python, "-m", "pip", "-q", "install", *what])
        (venv / ".ready").touch()
    # hoop, editable as it is, from the environment that runs this script.
    (own,) = venv.glob("lib/python*/site-packages")
    (own / "hoop-under-test.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    return source, python


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis server of our own; yields its URL."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("no redis-server: run tests/interop/install.sh")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(ROOT)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def outcomes_of(report: pathlib.Path) -> dict[str, str]:
    """Test by test, what a junit file says."""
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        worst = next((kind for kind in ("error", "failure", "skipped") if kind in kinds), "passed")
        name = f"{case.get('classname')}::{case.get('name')}"
        if outcomes.get(name, "passed") == "passed":
            outcomes[name] = worst
    return outcomes


def run(suite: Suite, loop_name: str, more: list[str]) -> tuple[dict[str, str], int]:
    """The suite on one loop: its outcomes, and how many of hoop's loops it made."""
    source, python = prepare(suite)
    report = ROOT / f"{suite.name}-{loop_name}.xml"
    count = ROOT / f"{suite.name}-{loop_name}.count"
    log = ROOT / f"{suite.name}-{loop_name}.log"
    report.unlink(missing_ok=True)
    env = dict(os.environ, ECOSYSTEM_LOOP=loop_name, ECOSYSTEM_COUNT=str(count))
    env["PYTHONPATH"] = str(HERE)
    command = [python, "-m", "pytest", "-p", "loop_plugin", *suite.arguments, *more]
    command += ["--timeout=120", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    with log.open("w") as file:
        subprocess.run(command, cwd=source, env=env, stdout=file, stderr=file, check=False)
    if not report.exists():
        sys.exit(f"{suite.name} didn't finish on {loop_name}: see {log}")
    return outcomes_of(report), int(count.read_text())


def worse(suite: Suite, more: list[str]) -> set[str]:
    """Run on both loops and say how it went; the tests that pass on stock asyncio only."""
    stock, _ = run(suite, "asyncio", more)
    hoop, made = run(suite, "hoop", more)
    passed = {name for name, outcome in stock.items() if outcome == "passed"}
    lost = {name for name in passed if hoop.get(name) != "passed"}
    print(
        f"{suite.name} {suite.version}: {len(stock)} tests, {len(passed)} pass on asyncio, "
        f"{list(hoop.values()).count('passed')} on hoop ({made} loops), {len(lost)} worse",
        flush=True,
    )
    if made == 0:
        sys.exit(f"{suite.name} made no loop of hoop's")
    return lost


def check(suite: Suite) -> bool:
    """Whether what passes on stock asyncio passes on hoop, in one of two runs."""
    with contextlib.ExitStack() as stack:
        more = []
        if suite.needs_redis:
            more.append(f"--redis-url={stack.enter_context(redis_server())}")
        lost = worse(suite, more)
        if lost:
            lost &= worse(suite, more)
    for name in sorted(lost):
        print(f"  passes on asyncio only: {name}")
    return not lost


def main(names: list[str]) -> int:
    """Run the suites named, or all."""
    ROOT.mkdir(parents=True, exist_ok=True)
    chosen = [suite for suite in SUITES if not names or suite.name in names]
    return sum(not check(suite) for suite in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
