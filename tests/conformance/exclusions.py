# SPDX-License-Identifier: MIT
"""The list of tests that don't count, `exclusions.txt`, which describes its own format."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).with_name("exclusions.txt")

_LINE = re.compile(
    r"""(?P<suite>\w+):(?P<pattern>\S+)
        (?P<skip>\s+skip)?
        (?:\s+\[(?P<first>3\.\d+)?(?P<range>-)?(?P<last>3\.\d+)?\])?
        \s+\#\s+(?P<reason>\S.*)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Exclusion:
    """One line of the list: tests of a suite, the versions it holds for, and why."""

    suite: str
    pattern: str
    skip: bool
    first: tuple[int, int]
    last: tuple[int, int]
    reason: str
    line: int

    def matches(self, test: str) -> bool:
        """Whether the entry names `test` (``module.Class.test``) or a scope around it."""
        return fnmatchcase(f"{test}.", f"{self.pattern}.*")

    def concerns(self, module: str) -> bool:
        """Whether the entry names tests of `module`."""
        return self.pattern.partition(".")[0] == module

    def __str__(self) -> str:
        return f"{LIST.name}:{self.line}: {self.suite}:{self.pattern}"


def _version(text: str | None, default: tuple[int, int]) -> tuple[int, int]:
    if text is None:
        return default
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def parse(lines: Iterable[str]) -> list[Exclusion]:
    """Parse the list; ValueError names a line that doesn't fit the format."""
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(
                f"{LIST.name}:{number}: not `suite:test [versions] # reason`: {line!r}"
            )
        first = _version(match["first"], (3, 0))
        open_end = (3, 999) if match["range"] or match["first"] is None else first
        entries.append(
            Exclusion(
                suite=match["suite"],
                pattern=match["pattern"],
                skip=match["skip"] is not None,
                first=first,
                last=_version(match["last"], open_end),
                reason=match["reason"],
                line=number,
            )
        )
    return entries


def load(suite: str) -> list[Exclusion]:
    """The entries for `suite` that hold for the running Python."""
    with LIST.open(encoding="utf-8") as lines:
        entries = parse(lines)
    version = sys.version_info[:2]
    return [e for e in entries if e.suite == suite and e.first <= version <= e.last]
