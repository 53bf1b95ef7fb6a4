# SPDX-License-Identifier: MIT
"""Runs the examples one after the other and tells what each of them shows."""

import ast
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STOPS = [
    "overlap.py",
    "life_cycle.py",
    "debug_policy.py",
    "debug_factory.py",
    "blocking_work.py",
    "loop_per_thread.py",
    "from_another_thread.py",
    "echo.py",
    "timing.py",
]


def visit(number: int, name: str) -> None:
    """Run one example; raises CalledProcessError if it fails."""
    path = HERE / name
    title, story = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n", 1)
    heading = f"{number}. {title}"
    print(f"\n{heading}\n{'=' * len(heading)}\n{story}\n[{HERE.name}/{name}]\n", flush=True)
    subprocess.run([sys.executable, path], check=True)


def main() -> None:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}"
    print(f"{len(STOPS)} short asyncio programs on hoop, {python}, {machine}")
    for number, name in enumerate(STOPS, 1):
        visit(number, name)


if __name__ == "__main__":
    main()
