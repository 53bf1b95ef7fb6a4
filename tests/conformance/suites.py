# SPDX-License-Identifier: MIT
"""Where the two suites are found. Neither is part of this repository."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

UVLOOP = "uvloop==0.23.0"
UVLOOP_SHA256 = "28d160f51ab4da3b187063652e643dea6831072add4adc1e6d62afbe73b6be27"
UVLOOP_MODULES = tuple(
    f"test_{name}"
    for name in (
        "aiohttp", "base", "context", "cython", "dealloc", "dns", "executors", "fs_event",
        "libuv_api", "pipes", "process", "process_spawning", "regr1", "runner", "signals",
        "sockets", "sourcecode", "tcp", "testbase", "udp", "unix",
    )
)  # fmt: skip
# What uvloop's tests import; a module whose package has no wheel for this Python doesn't run.
UVLOOP_TEST_PACKAGES = ("psutil", "pyOpenSSL~=26.4.0", "aiohttp>=3.10.5")
HERE = Path(__file__).parent


class SuiteUnavailable(Exception):
    """The suite can't be had here; the message says why and what to do."""


@dataclass(frozen=True)
class Suite:
    """A set of unittest modules, and how the loop gets into them (see `child.py`)."""

    name: str
    package: str
    modules: tuple[str, ...]
    uvloop: bool = False  # its tests make loops through the package uvloop, too
    paths: tuple[Path, ...] = ()  # for PYTHONPATH, after `loops/`
    environment: Mapping[str, str] = field(default_factory=dict)
    stock: str | None = None


def cpython() -> Suite:
    """The running interpreter's own ``test.test_asyncio``."""
    spec = importlib.util.find_spec("test.test_asyncio")
    if spec is None or not spec.submodule_search_locations:
        raise SuiteUnavailable(
            f"{sys.executable} has no package test.test_asyncio; "
            "some distributions put it in a package of its own (Debian: libpython3-testsuite)"
        )
    (folder,) = spec.submodule_search_locations
    modules = tuple(sorted(path.stem for path in Path(folder).glob("test_*.py")))
    return Suite("cpython", "test.test_asyncio", modules)


def uvloop() -> Suite:
    """uvloop's suite, from the source distribution on PyPI, downloaded once."""
    source = _uvloop_source()
    packages = _uvloop_test_packages()
    modules = tuple(sorted(path.stem for path in (source / "tests").glob("test_*.py")))
    return Suite(
        "uvloop",
        "tests",
        modules,
        uvloop=True,
        paths=(HERE / "uvloop_shim", packages, source),
        environment={"CONFORMANCE_UVLOOP": str(source)},
        stock="stock_loop:Loop",
    )


def cache_folder() -> Path:
    """Where downloads are kept: ``$XDG_CACHE_HOME/hoop-conformance``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "hoop-conformance"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SuiteUnavailable(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


def _uvloop_source() -> Path:
    target = cache_folder() / UVLOOP.replace("==", "-")
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        requirement = Path(scratch, "requirements.txt")
        requirement.write_text(f"{UVLOOP} --hash=sha256:{UVLOOP_SHA256}\n", encoding="utf-8")
        _pip(
            "download", "--no-deps", "--no-binary=uvloop", "--require-hashes",
            f"--dest={scratch}", f"--requirement={requirement}",
        )  # fmt: skip
        with tarfile.open(Path(scratch, f"{target.name}.tar.gz")) as archive:
            archive.extractall(scratch, filter="data")
        Path(scratch, target.name).rename(target)
    return target


def _uvloop_test_packages() -> Path:
    """Install the packages into a folder of the cache, one for each kind of interpreter."""
    target = cache_folder() / f"packages-{sysconfig.get_config_var('SOABI')}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            site = Path(scratch, "site")
            site.mkdir()
            for package in UVLOOP_TEST_PACKAGES:
                try:
                    _pip("install", "--only-binary=:all:", f"--target={site}", package)
                except SuiteUnavailable as error:
                    print(error, file=sys.stderr)
            site.rename(target)
    return target
