# SPDX-License-Identifier: MIT
"""Each example runs as a user runs it and prints what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hoop")

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "overlap.py": r"""
coffee: started
toast: started
toast: ready after 0\.2 s
coffee: ready after 0\.3 s
coffee and toast: \d+\.\d s together, 0\.5 s one after the other
""",
    "life_cycle.py": r"""
outside a coroutine: no running event loop
inside a coroutine: running=True closed=False
after hoop\.run: running=False closed=True
a new loop: running=False closed=False
the current loop of this thread is ours: True
inside a coroutine: running=True closed=False
inside a coroutine: running=True closed=False
run twice on the same loop: True
after close: running=False closed=True
using it now: Event loop is closed
""",
    "debug_policy.py": r"""
policy: new hoop loop, debug=True
main is done
asyncio: Executing <Task finished .*main\(\) done.*> took \d\.\d+ seconds
policy: new hoop loop, debug=True
"""
    if sys.version_info < (3, 16)
    else r"""
skipped: this Python has no event loop policies, see debug_factory\.py
""",
    "debug_factory.py": r"""
factory: new hoop loop, debug=True
main is done
asyncio: Executing <Task finished .*main\(\) done.*> took \d\.\d+ seconds
factory: loop closed
factory: new hoop loop, debug=False
main is done
factory: loop closed
""",
    "blocking_work.py": r"""
default executor: \[0, 1, 4\]
four threads: \[0, 1, 4, 9, 16, 25, 36, 49\]
eight calls of 0\.1 s in four threads took \d+\.\d s
meanwhile \d+ heartbeats, the longest pause \d+ ms
""",
    "loop_per_thread.py": r"""
thread north: 1 to 3 add up to 6
thread east: 1 to 4 add up to 10
thread south: 1 to 5 add up to 15
3 threads, 3 loops
""",
    "from_another_thread.py": r"""
main thread: the answer is 42
main thread: no answer within 0\.1 s, done=False
loop thread: cancelled, cleaning up
main thread: cancelled=True
""",
    "echo.py": r"""
streams server sent back: hello from Ann and goodbye
streams server sent back: hello from Bo and goodbye
streams server sent back: hello from Cy and goodbye
protocol server sent back: hello from Ann and goodbye
protocol server sent back: hello from Bo and goodbye
protocol server sent back: hello from Cy and goodbye
""",
    "timing.py": r"""
microseconds each +asyncio +hoop +faster
a callback scheduled with call_soon +\d+\.\d\d +\d+\.\d\d +\d+\.\dx
await asyncio\.sleep\(0\) +\d+\.\d\d +\d+\.\d\d +\d+\.\dx
1 KiB echoed over TCP +\d+\.\d\d +\d+\.\d\d +\d+\.\dx
""",
}


def run_example(name: str) -> str:
    """Run an example as `python examples/NAME`; it must succeed with nothing on stderr."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "timing.py"])
def test_example(name: str) -> None:
    printed = run_example(name)
    assert re.fullmatch(EXPECTED[name].lstrip(), printed), printed


def test_loop_stays_responsive_beside_blocking_work() -> None:
    beats = re.search(r"meanwhile (\d+) heartbeats", run_example("blocking_work.py"))
    assert beats is not None
    assert int(beats[1]) >= 8  # 30 on an idle machine


def test_tour_visits_every_example() -> None:
    printed = run_example("tour.py")
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*EXPECTED, "tour.py"}
    position = 0
    for number, (name, expected) in enumerate(EXPECTED.items(), 1):
        stop = re.compile(
            rf"^{number}\. (.+)\n=+\n(.+\n)+\[examples/{re.escape(name)}\]\n{expected}",
            re.MULTILINE,
        ).search(printed, position)
        assert stop is not None, f"{name} is missing in its place:\n{printed[position:]}"
        position = stop.end()
    assert printed[position:] == ""
