# SPDX-License-Identifier: MIT
"""The C tests of tests/core, one pytest test for each program.

HOOP_SANITIZE builds them with sanitizers: "address,undefined" or "thread".
"""

from __future__ import annotations

import json
import os
from typing import Any

import corekit
import pytest


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What meson logged of each program. One run of them all: starting meson is what takes time."""
    directory = corekit.build(os.environ.get("HOOP_SANITIZE", ""))
    run = corekit.meson("test", "-C", directory, "--no-rebuild")
    log = directory / "meson-logs/testlog.json"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert (run.returncode == 0) == all(entry["result"] == "OK" for entry in entries), run.stdout
    return {entry["name"].rpartition(":")[2]: entry for entry in entries}


@pytest.mark.parametrize("program", corekit.PROGRAMS)
def test_program(results: dict[str, dict[str, Any]], program: str) -> None:
    entry = results[program]
    output = f"{entry['result']}\n{entry.get('stdout', '')}\n{entry.get('stderr', '')}"
    assert entry["result"] == "OK", output
    assert "\nok 1 - " in f"\n{entry['stdout']}"
