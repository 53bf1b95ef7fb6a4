# SPDX-License-Identifier: MIT
"""The layers: core <- py <- hoop, never back, and the rules that hold for all of the core.

Each rule is read off the sources or off the core's object files, so a change that breaks one
fails here by the name of the rule.
"""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import corekit
import pytest

SRC = corekit.ROOT / "src"
MAY_INCLUDE = {"core": {"core"}, "py": {"core", "py"}}
PYTHON_HEADERS = Path(sysconfig.get_path("include"))
COLD_MODULE = "hoop._cold"
"""The one module of the Python package that C may import."""

COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
ATOMIC = re.compile(r"\b(?:volatile|_Atomic|atomic_\w+|__atomic_\w+|__sync_\w+)\b|<stdatomic\.h>")


def c_files(layer: str) -> list[Path]:
    return sorted(path for path in (SRC / layer).iterdir() if path.suffix in {".c", ".h"})


def name(path: Path) -> str:
    return str(path.relative_to(SRC))


def without_comments(text: str) -> str:
    return COMMENT_OR_STRING.sub(lambda m: m[0] if m[0].startswith('"') else " ", text)


def code_only(text: str) -> str:
    """`text` without comments, strings and includes."""
    return COMMENT_OR_STRING.sub(" ", INCLUDE.sub("", text))


@pytest.fixture(scope="module")
def build() -> Path:
    return corekit.build()


@dataclass(frozen=True)
class Symbol:
    name: str
    object_file: str
    section: str


def symbols(library: Path) -> Iterator[Symbol]:
    """What nm lists of each object file in the archive."""
    output = subprocess.run(
        ["nm", "--format=sysv", library], check=True, capture_output=True, text=True
    ).stdout
    object_file = ""
    for line in output.splitlines():
        if header := re.match(r"Symbols from .*\[(?:.*/)?(\S+)\.o\]:", line):
            object_file = header[1]
        elif line.count("|") == 6:
            fields = [field.strip() for field in line.split("|")]
            yield Symbol(fields[0], object_file, fields[6])


@pytest.fixture(scope="module")
def core_symbols(build: Path) -> list[Symbol]:
    found = list(symbols(build / corekit.LIBRARY))
    assert {s.object_file for s in found} == {p.name for p in c_files("core") if p.suffix == ".c"}
    return found


@pytest.mark.parametrize("layer", MAY_INCLUDE)
def test_includes_name_their_layer_and_never_a_higher_one(layer: str) -> None:
    wrong = []
    for path in c_files(layer):
        for bracket, header in INCLUDE.findall(without_comments(path.read_text())):
            if bracket == "<":
                allowed = not (SRC / header).exists()
            else:
                allowed = header.split("/")[0] in MAY_INCLUDE[layer] and (SRC / header).is_file()
            if not allowed:
                wrong.append(f"{name(path)}: {header}")
    assert not wrong


def test_core_includes_no_header_of_python() -> None:
    wrong = [
        f"{name(path)}: {header}"
        for path in c_files("core")
        for _, header in INCLUDE.findall(without_comments(path.read_text()))
        if header == "Python.h" or (PYTHON_HEADERS / header).exists()
    ]
    assert not wrong


def test_core_is_compiled_without_python(build: Path) -> None:
    commands = json.loads((build / "compile_commands.json").read_text())
    core = [c["command"] for c in commands if Path(c["file"]).parent.parts[-2:] == ("src", "core")]
    assert len(core) == len([path for path in c_files("core") if path.suffix == ".c"])
    assert [c for c in core if re.search(r"-I\S*python|Python\.h", c)] == []


def test_core_needs_no_symbol_of_python(core_symbols: list[Symbol]) -> None:
    assert [s for s in core_symbols if re.match(r"_?Py", s.name)] == []


def test_test_programs_run_without_libpython(build: Path) -> None:
    for program in corekit.PROGRAMS:
        dynamic = subprocess.run(
            ["readelf", "--dynamic", build / "tests/core" / program],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert "NEEDED" in dynamic
        assert "libpython" not in dynamic


def test_core_has_no_global_that_can_change(core_symbols: list[Symbol]) -> None:
    """Two loops share nothing: what is static is constant (.data.rel.ro only until loaded)."""
    writable = re.compile(r"\.(?:t?data|t?bss)(?!\.rel\.ro)|\*COM\*")
    assert [s for s in core_symbols if writable.match(s.section)] == []


def test_errno_is_read_in_sys_only(core_symbols: list[Symbol]) -> None:
    readers = {s.object_file for s in core_symbols if s.name == "__errno_location"}
    assert readers == {"sys.c"}


def test_binding_sets_errno_in_one_file_and_never_reads_it() -> None:
    code = {name(path): code_only(path.read_text()) for path in c_files("py")}
    assert [path for path, text in code.items() if re.search(r"\berrno\b(?!\s*=[^=])", text)] == []
    assert len([path for path, text in code.items() if re.search(r"\berrno\b", text)]) <= 1


@pytest.mark.parametrize("layer", MAY_INCLUDE)
def test_atomics_go_through_one_header(layer: str) -> None:
    users = [
        name(path)
        for path in c_files(layer)
        if ATOMIC.search(without_comments(path.read_text())) and name(path) != "core/atomic.h"
    ]
    assert users == []


def test_c_imports_the_python_package_through_one_module() -> None:
    """By name C knows itself (hoop._hoop) and one module of helpers; nothing else of hoop."""
    names: set[str] = set()
    for layer in MAY_INCLUDE:
        for path in c_files(layer):
            names |= set(re.findall(r'"(hoop(?:\.\w+)*)"', without_comments(path.read_text())))
    assert {n for n in names if n != "hoop._hoop" and not n.startswith("hoop._hoop.")} == {
        COLD_MODULE
    }
    assert (SRC / "hoop" / f"{COLD_MODULE.removeprefix('hoop.')}.py").is_file()
