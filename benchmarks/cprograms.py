# SPDX-License-Identifier: MIT
"""Compile the C programs of the benchmarks into _build/, when they are missing or out of date."""

import os
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "c"
BUILD = HERE / "_build"
COMPILER = os.environ.get("CC", "cc")
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]

LOADGEN = BUILD / "loadgen"
TICKER = BUILD / "ticker"
ECHO = BUILD / "echo"


class BuildError(Exception):
    """The compiler was missing or refused; the text says why."""


def _compile(source: Path, target: Path, *flags: str) -> Path:
    inputs = [source, SOURCES / "net.h"]
    newest = max(path.stat().st_mtime for path in inputs)
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    BUILD.mkdir(exist_ok=True)
    command = [COMPILER, *FLAGS, *flags, "-o", str(target), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError(f"no C compiler: {COMPILER}") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{source.name}: {error.stderr.strip().splitlines()[0]}") from None
    return target


def build() -> None:
    """Build the load generator, the ticker and the C echo server."""
    for target in (LOADGEN, TICKER, ECHO):
        _compile(SOURCES / f"{target.name}.c", target)


def pycall_echo() -> Path:
    """Build the extension module for the running Python and return its path."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    include = sysconfig.get_paths()["include"]
    target = BUILD / f"pycall_echo{suffix}"
    return _compile(SOURCES / "pycall_echo.c", target, f"-I{include}", "-shared", "-fPIC")
