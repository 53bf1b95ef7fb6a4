# SPDX-License-Identifier: MIT
"""Each probe on stock asyncio and on hoop: the same outcome, or a difference that has a reason."""

import importlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from differences import DIFFERENCES
from probekit import PROBES, outcome

for _path in sorted(pathlib.Path(__file__).parent.glob("probes_*.py")):
    importlib.import_module(_path.stem)


@pytest.mark.timeout(40, method="thread")
@pytest.mark.parametrize("name", list(PROBES))
def test_probe(name):
    case = PROBES[name]
    if not case.since <= sys.version_info < case.before:
        pytest.skip("not for this version of Python")
    stock, hoop = outcome(case, "asyncio"), outcome(case, "hoop")
    assert "HUNG" not in stock + hoop
    _reason, expected = DIFFERENCES.get(name, (None, stock))
    assert hoop == expected


def test_differences_name_probes():
    assert DIFFERENCES.keys() <= PROBES.keys()
