# SPDX-License-Identifier: MIT
"""Compare event loops side by side; see README.md beside this file for method and reading.

python benchmarks/run.py                    everything, about half an hour
python benchmarks/run.py --quick            everything, one short round, a few minutes
python benchmarks/run.py --case 'echo-*' --loop hoop,uvloop --rounds 9
"""

import argparse
import fnmatch
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cases_loop
import cases_net
import chart
import cprograms
import loops
import report

HERE = Path(__file__).parent
CASE_TIMEOUT_S = 45.0
CHECK_TIMEOUT_S = 10.0

Case = cases_loop.LoopCase | cases_net.NetCase
Measure = Callable[[Case, str], dict[str, Any]]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, short measurements")
    parser.add_argument("--rounds", type=int, help="rounds per case (default 5, quick 1)")
    parser.add_argument(
        "--case", action="append", metavar="PATTERN", help="only cases whose name matches"
    )
    parser.add_argument("--loop", metavar="NAMES", help="only these, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the picture")
    parser.add_argument(
        "--load", type=Path, metavar="FILE", help="measure nothing, report an earlier --json file"
    )
    return parser.parse_args()


def chosen_cases(patterns: list[str] | None) -> list[Case]:
    """Return the cases that match any of the patterns, or all of them."""
    cases: list[Case] = [*cases_loop.CASES, *cases_net.CASES]
    if not patterns:
        return cases
    return [case for case in cases if any(fnmatch.fnmatch(case.name, p) for p in patterns)]


def check_loop(name: str) -> tuple[str, str]:
    """Try a loop in a process of its own; return its version or '', and why not."""
    command = [sys.executable, str(HERE / "loops.py"), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "", f"does not finish a sleep(0.001) in {CHECK_TIMEOUT_S:.0f} s"
    if done.returncode:
        return "", cases_net.last_line(done.stderr) or f"exit status {done.returncode}"
    return done.stdout.strip(), ""


def check_limit(name: str) -> tuple[str, str]:
    """Do the same for a C server: one of them needs Python's headers to be built."""
    try:
        if name == "c-pycall":
            cprograms.pycall_echo()
    except cprograms.BuildError as error:
        return "", str(error)
    return "limit", ""


def available(wanted: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split the wanted loops into {name: version} and {name: reason it can't be measured}."""
    present: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        version, reason = check_limit(name) if name in loops.LIMITS else check_loop(name)
        if version:
            present[name] = version
        else:
            absent[name] = reason
    return present, absent


def measure_loop_case(case: cases_loop.LoopCase, loop: str, quick: bool) -> dict[str, Any]:
    """Run cases_loop.py for one case and loop in a fresh process on one core."""
    server_core, client_core = cores()
    command = [sys.executable, str(HERE / "cases_loop.py"), case.name, loop]
    command += ["--other-core", str(client_core)] + ["--quick"] * quick
    with cases_net.pinned(server_core):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CASE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise cases_net.Failure(f"not done after {CASE_TIMEOUT_S:.0f} s") from None
    if done.returncode < 0:
        raise cases_net.Failure(f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise cases_net.Failure(cases_net.last_line(done.stderr))
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def cores() -> tuple[int, int]:
    """Return the cores of server and client; the same one twice if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def measurer(quick: bool) -> Measure:
    """Return the function that measures one case on one loop."""
    server_core, client_core = cores()
    settings = cases_net.Settings(
        server_core=server_core,
        client_core=client_core,
        seconds=0.3 if quick else 0.6,
        warmup=0.1 if quick else 0.2,
        idle_connections=idle_connections(),
    )

    def measure(case: Case, loop: str) -> dict[str, Any]:
        if isinstance(case, cases_net.NetCase):
            return cases_net.measure(case, loop, settings)
        return measure_loop_case(case, loop, quick)

    return measure


def idle_connections() -> int:
    """Raise the limit of open files and return how many connections it leaves room for."""
    wanted = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + 100:
        soft = wanted + 100 if hard == resource.RLIM_INFINITY else min(wanted + 100, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, soft - 100)


def applies(case: Case, loop: str) -> bool:
    """Whether the case exists for this loop or limit."""
    if loop not in loops.LIMITS:
        return True
    served = ("protocol", "sock", "udp") if loop == "c-epoll" else ("protocol",)
    return isinstance(case, cases_net.NetCase) and case.proto in served


def run_case(case: Case, names: list[str], rounds: int, measure: Measure) -> dict[str, Any]:
    """Measure one case on all loops, round by round, each round in another order."""
    results: dict[str, Any] = {
        name: {"rounds": [], "failed": None} for name in names if applies(case, name)
    }
    order = list(results)
    for number in range(rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            result = results[name]
            given_up = result["failed"] and not any(result["rounds"])
            measured = None
            if not given_up:
                try:
                    measured = measure(case, name)
                except cases_net.Failure as failure:
                    result["failed"] = str(failure)
            result["rounds"].append(measured)
    return {"name": case.name, "title": case.title, "unit": case.unit, "results": results}


def on_alarm(number: int, frame: FrameType | None) -> None:
    """Interrupt a read that waits for a server."""
    raise TimeoutError


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for and return the document of report.py."""
    signal.signal(signal.SIGALRM, on_alarm)
    wanted = args.loop.split(",") if args.loop else [*loops.LIMITS, *loops.FACTORIES]
    unknown = set(wanted) - set(loops.FACTORIES) - set(loops.LIMITS)
    if unknown:
        raise SystemExit(f"no such loop: {', '.join(sorted(unknown))}")
    cprograms.build()
    present, absent = available(wanted)
    document: dict[str, Any] = {
        "meta": {
            "python": sys.version,
            "system": platform.platform(),
            "cores": list(cores()),
            "date": time.strftime("%Y-%m-%d"),
            "quick": args.quick,
        },
        "loops": present,
        "absent": absent,
        "cases": [],
    }
    print_heading(document)
    rounds = args.rounds or (1 if args.quick else 5)
    measure = measurer(args.quick)
    for case in chosen_cases(args.case):
        document["cases"].append(run_case(case, list(present), rounds, measure))
        report.finish(document)
        print(report.case_table(document["cases"][-1]), end="\n\n", flush=True)
    return document


def print_heading(document: dict[str, Any]) -> None:
    """Say what is compared and what could not be."""
    print(f"Python {document['meta']['python']}")
    print(f"{document['meta']['system']}, cores {document['meta']['cores']}")
    print(", ".join(f"{name} {version}" for name, version in document["loops"].items()))
    for name, reason in document["absent"].items():
        print(f"skipped: {name}: {reason}")
    print(flush=True)


def main() -> None:
    """Run the command; the exit status is 1 if hoop was measured and failed a case."""
    args = parse()
    if args.list:
        print("\n".join(case.name for case in chosen_cases(args.case)))
        return
    if args.load:
        document = json.loads(args.load.read_text())
        report.finish(document)
        print_heading(document)
        print("\n\n".join(report.case_table(case) for case in document["cases"]), end="\n\n")
    else:
        try:
            document = measure_all(args)
        except cprograms.BuildError as error:
            raise SystemExit(f"the C programs can't be built: {error}") from None
    print(report.summary(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    if args.svg:
        args.svg.write_text(chart.draw(document))
    if any(case["results"].get(loops.HOOP, {}).get("failed") for case in document["cases"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
