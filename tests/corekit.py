# SPDX-License-Identifier: MIT
"""Builds the C core and its test programs, apart from the extension module."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = Path("src/core/libhoop-core.a")
"""The core, relative to a build directory."""
PROGRAMS = sorted(path.stem for path in (ROOT / "tests/core").glob("test_*.c"))
"""The test programs by the names that meson has for them."""


def environment() -> dict[str, str]:
    """Of the build tools: those of this virtual environment first, no preloaded sanitizer."""
    env = dict(os.environ)
    env["PATH"] = sysconfig.get_path("scripts") + os.pathsep + env.get("PATH", os.defpath)
    env.pop("LD_PRELOAD", None)
    return env


def meson(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `meson args`; stderr is part of stdout."""
    return subprocess.run(
        [sys.executable, "-m", "mesonbuild.mesonmain", *args],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@functools.cache
def build(sanitize: str = "") -> Path:
    """Build directory with the core and its tests made, assertions on.

    `sanitize` is meson's b_sanitize, such as "address,undefined".
    """
    directory = ROOT / "build" / "-".join(["core", *filter(None, sanitize.split(","))])
    again = ["--reconfigure"] if (directory / "build.ninja").exists() else []
    options = ["--buildtype=debugoptimized", "-Db_ndebug=false", f"-Db_sanitize={sanitize}"]
    options.append("-Db_lto=false")  # it would inline calls past the linker's --wrap
    run_step("setup", *again, *options, directory)
    run_step("compile", "-C", directory, "hoop-core", *PROGRAMS)
    return directory


def run_step(*args: str | Path) -> None:
    result = meson(*args)
    if result.returncode != 0:
        raise RuntimeError(f"meson {args[0]} failed:\n{result.stdout}")
