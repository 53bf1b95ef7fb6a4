# SPDX-License-Identifier: MIT
"""Each probe on stock asyncio and on hoop: the same outcome, or a difference that has a reason."""

import importlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from probekit import PROBES, outcome

for _path in sorted(pathlib.Path(__file__).parent.glob("probes_*.py")):
    importlib.import_module(_path.stem)


@pytest.mark.parametrize("name", list(PROBES))
def test_probe(name):
    case = PROBES[name]
    if sys.version_info < case.since:
        pytest.skip(f"needs Python {'.'.join(map(str, case.since))}")
    stock, hoop = outcome(case, "asyncio"), outcome(case, "hoop")
    assert "HUNG" not in stock + hoop
    if case.differs is None:
        assert hoop == stock
    else:
        assert hoop == case.hoop
        assert stock != hoop, "no difference any more"
