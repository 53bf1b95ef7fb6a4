# SPDX-License-Identifier: MIT
"""Runs somebody else's program as `__main__`, with hoop as asyncio's default loop.

The program sees what it would see under python itself: its own `__main__`, `sys.argv`,
`sys.path[0]`, exit code, and tracebacks that begin at its own first frame.
"""

import asyncio
import builtins
import functools
import io
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from typing import NoReturn

from hoop import _policy
from hoop._loop import Loop

Hook = Callable[[type[BaseException], BaseException, types.TracebackType | None], object]


def run_script(path: str, arguments: list[str]) -> None:
    """Run the file at `path`, or the `__main__.py` of that folder or zip file."""
    sys.argv = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    if pkgutil.get_importer(path) is not None:
        run_as_python(functools.partial(runpy.run_path, path, run_name="__main__"))
    else:
        run_as_python(functools.partial(execute_file, os.path.abspath(path)))


def run_module(name: str, arguments: list[str]) -> None:
    """Run the module or package `name`, found on `sys.path`."""
    sys.argv = [name, *arguments]
    run_as_python(functools.partial(runpy.run_module, name, run_name="__main__", alter_sys=True))


def execute_file(file: str) -> None:
    """Run a source file as `__main__`, which it stays until the interpreter ends.

    `runpy.run_path` would take `__main__` away again before threads and exit handlers
    of the program are done, and put the absolute path into `sys.argv`.
    """
    with io.open_code(file) as source:
        code = compile(source.read(), file, "exec", dont_inherit=True)
    module = types.ModuleType("__main__")
    module.__file__ = file
    module.__loader__ = SourceFileLoader("__main__", file)
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def run_as_python(program: Callable[[], object]) -> None:
    """Run the program on hoop; its exceptions pass through and show only its own frames."""
    make_hoop_default()
    try:
        program()
    except BaseException as error:
        frames = program_frames(error)
        if frames is None and isinstance(error, OSError | ImportError):
            not_started(error)
        show_frames(error, frames)
        raise


def make_hoop_default() -> None:
    """Have `asyncio.run`, `Runner` and `new_event_loop` make hoop loops."""
    if _policy.HAS_POLICIES:
        _policy.set_policy_quietly(_policy.EventLoopPolicy())
    else:
        asyncio.new_event_loop = asyncio.events.new_event_loop = Loop


def program_frames(error: BaseException) -> types.TracebackType | None:
    """The traceback from the program's first frame on; None if it did not get to run."""
    traceback = error.__traceback__
    while traceback and traceback.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        traceback = traceback.tb_next
    return traceback


def show_frames(error: BaseException, frames: types.TracebackType | None) -> None:
    """Have `error`, which is about to end the process, shown with these frames only."""
    hook: Hook = sys.excepthook

    def show(
        kind: type[BaseException], shown: BaseException, traceback: types.TracebackType | None
    ) -> None:
        if shown is error:
            traceback = frames
            shown = shown.with_traceback(frames)
        hook(kind, shown, traceback)

    sys.excepthook = show


def not_started(error: OSError | ImportError) -> NoReturn:
    """Report a program that cannot be opened or found, with python's own exit codes."""
    if isinstance(error, OSError):
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"python -m hoop: can't open file {error.filename!r}: {reason}", file=sys.stderr)
        sys.exit(2)
    print(f"python -m hoop: {error}", file=sys.stderr)
    sys.exit(1)
