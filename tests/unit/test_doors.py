# SPDX-License-Identifier: MIT
"""The ways onto a hoop loop: run, loop_factory, the policy, and the command line."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import unittest
import warnings
import zipapp
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

hoop = pytest.importorskip("hoop")

WITH_POLICIES = hasattr(asyncio, "set_event_loop_policy")
with_policies = pytest.mark.skipif(not WITH_POLICIES, reason="this Python has no policies")


def python(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the interpreter under test, without any warning filter from outside."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )


def run_code(code: str, *options: str) -> str:
    """Run `code` with `python -W error`; return what it prints, fail with what it complains of."""
    done = python("-W", "error", *options, "-c", textwrap.dedent(code))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def on_hoop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "hoop"


async def current() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def error_of(call: Callable[[], Any]) -> tuple[type[Exception], str]:
    with pytest.raises(Exception) as caught:  # whichever: it is compared
        call()
    return caught.type, str(caught.value)


class TestRun:
    def test_returns_the_result_and_closes_its_loop(self) -> None:
        loop = hoop.run(current())
        assert on_hoop(loop)
        assert loop.is_closed()

    def test_each_run_has_a_new_loop(self) -> None:
        assert hoop.run(current()) is not hoop.run(current())

    def test_cancels_tasks_and_closes_generators(self) -> None:
        ended = []

        async def wait_for_ever() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("task")
                raise

        async def generate() -> Any:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                ended.append("generator")

        async def main() -> None:
            tasks.append(asyncio.create_task(wait_for_ever()))
            generators.append(generate())
            await anext(generators[0])

        tasks: list[Any] = []
        generators: list[Any] = []
        hoop.run(main())
        assert ended == ["task", "generator"]

    def test_exception_passes_through(self) -> None:
        async def fail() -> None:
            raise LookupError("not here")

        with pytest.raises(LookupError, match="not here"):
            hoop.run(fail())

    @pytest.mark.parametrize("debug", [True, False])
    def test_debug(self, debug: bool) -> None:
        assert hoop.run(current(), debug=debug).get_debug() is debug

    def test_options_reach_the_loop(self) -> None:
        calls = []
        loop = hoop.run(
            current(),
            debug=True,
            slow_callback=7.5,
            on_loop_created=lambda loop: calls.append(("created", loop.get_debug())),
            on_loop_closed=lambda loop: calls.append(("closed", loop.is_closed())),
        )
        assert loop.slow_callback_duration == 7.5
        assert calls == [("created", True), ("closed", True)]

    def test_refused_inside_a_running_loop_in_asyncios_words(self) -> None:
        async def error_inside(run: Callable[[Any], Any]) -> tuple[type[Exception], str]:
            inner = current()
            try:
                return error_of(lambda: run(inner))
            finally:
                inner.close()

        error = hoop.run(error_inside(hoop.run))
        assert error == asyncio.run(error_inside(asyncio.run))
        assert error[0] is RuntimeError

    def test_not_awaitable_is_refused_in_asyncios_words(self) -> None:
        assert error_of(lambda: hoop.run(42)) == error_of(lambda: asyncio.run(42))  # type: ignore

    def test_awaitable_is_accepted_where_asyncio_does(self) -> None:
        class Ready:
            def __await__(self) -> Generator[Any, None, str]:
                yield from asyncio.sleep(0).__await__()
                return "done"

        def outcome(run: Callable[..., str]) -> str:
            try:
                return run(Ready())
            except ValueError:
                return "refused"

        assert outcome(hoop.run) == outcome(asyncio.run)
        assert outcome(hoop.run) == ("done" if sys.version_info >= (3, 14) else "refused")

    def test_ctrl_c_cancels_main_then_raises(self) -> None:
        cancelled = []

        async def main() -> None:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with pytest.raises(KeyboardInterrupt):
            hoop.run(main())
        assert cancelled == [True]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestLoopFactory:
    def test_makes_a_new_loop_at_each_call(self) -> None:
        factory = hoop.loop_factory()
        first, second = factory(), factory()
        assert on_hoop(first)
        assert on_hoop(second)
        assert first is not second
        first.close()
        second.close()

    def test_each_loop_has_the_options(self) -> None:
        seen: list[Any] = []
        factory = hoop.loop_factory(debug=True, on_loop_created=seen.append)
        loops = [factory(), factory()]
        assert seen == loops
        for loop in loops:
            assert loop.get_debug()
            loop.close()

    def test_repr_shows_the_options(self) -> None:
        assert repr(hoop.loop_factory()) == "hoop.loop_factory()"
        shown = repr(hoop.loop_factory(name="web", debug=True))
        assert shown == "hoop.loop_factory(name='web', debug=True)"

    def test_pickles(self) -> None:
        factory = pickle.loads(pickle.dumps(hoop.loop_factory(name="web", slow_callback=2.5)))
        assert repr(factory) == "hoop.loop_factory(name='web', slow_callback=2.5)"
        loop = factory()
        assert loop.slow_callback_duration == 2.5
        loop.close()

    def test_as_class_attribute(self) -> None:
        class Owner:
            loop_factory = hoop.loop_factory(name="owned")

        loop = Owner().loop_factory()
        assert on_hoop(loop)
        loop.close()

    @pytest.mark.since((3, 13), "IsolatedAsyncioTestCase.loop_factory")
    def test_in_a_test_case(self) -> None:
        loops = []

        class Case(unittest.IsolatedAsyncioTestCase):
            loop_factory = hoop.loop_factory()

            async def test_it(self) -> None:
                loops.append(asyncio.get_running_loop())

        result = Case("test_it").run()
        assert result is not None
        assert result.wasSuccessful(), result.errors
        assert [on_hoop(loop) for loop in loops] == [True]

    def test_in_a_runner(self) -> None:
        with asyncio.Runner(loop_factory=hoop.loop_factory(name="runner")) as runner:
            assert on_hoop(runner.run(current()))

    @pytest.mark.parametrize("door", ["loop_factory", "EventLoopPolicy", "run"])
    def test_unknown_option_is_named(self, door: str) -> None:
        if door == "EventLoopPolicy" and not WITH_POLICIES:
            pytest.skip("this Python has no policies")
        main = current()
        with pytest.raises(TypeError, match=r"'colour'.*slow_callback"):
            getattr(hoop, door)(*[main] if door == "run" else [], colour="red")
        main.close()


@pytest.fixture
def set_policy() -> Iterator[Callable[[Any], None]]:
    """Sets the global policy without warnings; the default policy is back after the test."""

    def set_quietly(policy: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(policy)

    yield set_quietly
    set_quietly(None)


def default_policy() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.DefaultEventLoopPolicy()


@with_policies
class TestPolicy:
    def test_is_asyncios_default_policy(self) -> None:
        assert isinstance(hoop.EventLoopPolicy(), type(default_policy()))

    def test_whatever_makes_loops_makes_hoop_loops(self, set_policy: Callable[[Any], None]) -> None:
        set_policy(hoop.EventLoopPolicy())
        assert on_hoop(asyncio.run(current()))
        with asyncio.Runner() as runner:
            assert on_hoop(runner.get_loop())
        loop = asyncio.new_event_loop()
        assert on_hoop(loop)
        loop.close()

    def test_options_hold_for_each_loop(self, set_policy: Callable[[Any], None]) -> None:
        set_policy(hoop.EventLoopPolicy(debug=True))
        assert asyncio.run(current()).get_debug()
        assert asyncio.run(current()).get_debug()

    def test_subclass_overrides_new_event_loop(self, set_policy: Callable[[Any], None]) -> None:
        made = []

        class Policy(hoop.EventLoopPolicy):  # type: ignore
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                loop: asyncio.AbstractEventLoop = super().new_event_loop()
                loop.set_debug(True)
                made.append(loop)
                return loop

        set_policy(Policy())
        loop = asyncio.run(current())
        assert made == [loop]
        assert loop.get_debug()
        assert on_hoop(loop)

    @pytest.mark.parametrize("where", ["main thread", "other thread", "after set to None"])
    def test_get_event_loop_does_as_in_this_python(
        self, where: str, set_policy: Callable[[Any], None]
    ) -> None:
        def outcome(policy: Any) -> tuple[str, list[tuple[type[Warning], str]]]:
            set_policy(policy)
            if where == "after set to None":
                asyncio.set_event_loop(None)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    asyncio.get_event_loop().close()
                    text = "a loop"
                except RuntimeError as error:
                    text = str(error)
            return text, [(warning.category, warning.filename) for warning in caught]

        def both() -> None:
            outcomes.extend([outcome(hoop.EventLoopPolicy()), outcome(default_policy())])

        outcomes: list[Any] = []
        if where == "other thread":
            thread = threading.Thread(target=both, name="other")
            thread.start()
            thread.join()
        else:
            both()
        assert outcomes[0] == outcomes[1]

    @pytest.mark.parametrize(
        "watcher",
        [None, "ThreadedChildWatcher", "PidfdChildWatcher", "SafeChildWatcher"]
        if sys.version_info < (3, 14)
        else [None],
    )
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_subprocesses(self, watcher: str | None, set_policy: Callable[[Any], None]) -> None:
        async def main() -> tuple[bytes, int | None]:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", "print('child'); raise SystemExit(3)"],
                stdout=subprocess.PIPE,
            )
            out, _ = await process.communicate()
            return out, process.returncode

        policy = hoop.EventLoopPolicy()
        set_policy(policy)
        if watcher is not None:
            policy.set_child_watcher(getattr(asyncio, watcher)())
        assert asyncio.run(main()) == (b"child\n", 3)
        if watcher is not None:
            policy.set_child_watcher(None)

    def test_install(self, set_policy: Callable[[Any], None]) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hoop.install()
        assert on_hoop(asyncio.run(current()))
        expected = [(DeprecationWarning, __file__)] if sys.version_info >= (3, 14) else []
        assert [(warning.category, warning.filename) for warning in caught] == expected

    def test_costs_no_import_and_no_warning_unless_used(self) -> None:
        code = """
        import sys, hoop
        async def main(): pass
        hoop.run(main())
        print("hoop._policy" in sys.modules)
        hoop.EventLoopPolicy().new_event_loop().close()
        print("hoop._policy" in sys.modules)
        """
        assert run_code(code).split() == ["False", "True"]


NO_POLICIES = "import asyncio; del asyncio.set_event_loop_policy\n" if WITH_POLICIES else ""
"""What makes this Python look like one without policies."""


class TestWithoutPolicies:
    def test_policy_is_missing_and_says_why(self) -> None:
        code = """
        import hoop
        print(hasattr(hoop, "EventLoopPolicy"))
        try:
            hoop.EventLoopPolicy()
        except AttributeError as error:
            print(error)
        """
        there, error = run_code(NO_POLICIES + textwrap.dedent(code)).splitlines()
        assert there == "False"
        assert "EventLoopPolicy" in error
        assert "loop_factory" in error

    def test_install_says_what_to_use(self) -> None:
        code = """
        import hoop
        try:
            hoop.install()
        except RuntimeError as error:
            print(error)
        """
        assert "loop_factory" in run_code(NO_POLICIES + textwrap.dedent(code))

    def test_command_line_replaces_new_event_loop(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(WAYS_TO_A_LOOP["asyncio.new_event_loop"])
        code = NO_POLICIES + textwrap.dedent(f"""
            import runpy, sys
            sys.argv = ["hoop", "run", {str(script)!r}]
            runpy.run_module("hoop", run_name="__main__")
        """)
        assert run_code(code).startswith("hoop")


WAYS_TO_A_LOOP = {
    "asyncio.run": """
import asyncio

async def main():
    return asyncio.get_running_loop()

print(type(asyncio.run(main())).__module__)
""",
    "asyncio.Runner": """
import asyncio

with asyncio.Runner() as runner:
    print(type(runner.get_loop()).__module__)
""",
    "asyncio.new_event_loop": """
import asyncio

loop = asyncio.new_event_loop()
print(type(loop).__module__)
loop.close()
""",
    "asyncio.get_event_loop": """
import asyncio, sys, warnings

warnings.simplefilter("ignore")
loop = asyncio.get_event_loop() if sys.version_info < (3, 14) else asyncio.new_event_loop()
print(type(loop).__module__)
loop.close()
""",
}

HONOURED = {
    "own policy": """
import asyncio, warnings

warnings.simplefilter("ignore")

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        print("own policy")
        return asyncio.SelectorEventLoop()

async def main():
    return asyncio.get_running_loop()

asyncio.set_event_loop_policy(Policy())
print(type(asyncio.run(main())).__module__)
""",
    "own loop factory": """
import asyncio

with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    print(type(runner.get_loop()).__module__)
""",
}

AS_UNDER_PYTHON = {
    "what it sees": """
import inspect, sys

print(sys.argv, __name__, __file__, __spec__ and __spec__.name, __package__, type(__loader__))
print(sys.path[0], sys.modules["__main__"].__dict__ is globals())
print(inspect.getsource(inspect.currentframe())[:20])
""",
    "builtins": "print(__builtins__)",
    "exit code": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('no such luck')",
    "exception": """
import asyncio

def fail():
    return 1 / 0

async def main():
    fail()

asyncio.run(main())
""",
    "chained exception": """
try:
    {}["key"]
except KeyError as error:
    raise ValueError("no key") from error
""",
    "keyboard interrupt": """
import asyncio, signal

async def main():
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
    await asyncio.Event().wait()

asyncio.run(main())
""",
    "cancelled": "import asyncio; raise asyncio.CancelledError",
    "syntax error": "print('never')\nif:\n",
    "missing import": "import no_such_module_anywhere",
    "missing file": "open('/no/such/file')",
    "own excepthook": """
import sys, traceback

def hook(kind, error, frames):
    print(kind, error, len(traceback.extract_tb(frames)))

sys.excepthook = hook
raise ValueError("seen by the hook")
""",
    "main at exit": """
import atexit, pickle, threading

class Thing:
    pass

def report():
    print("exit", type(pickle.loads(pickle.dumps(Thing()))) is Thing)

def late():
    threading.main_thread().join()
    print("thread", type(pickle.loads(pickle.dumps(Thing()))) is Thing)

atexit.register(report)
threading.Thread(target=late).start()
""",
    "encoding": "# -*- coding: latin-1 -*-\nprint(ascii('caf\\xe9'))\n",
}


ASYNCIO_FRAME = re.compile(r'  File "[^"]*/asyncio/[^"]*", line .*\n(?:    .*\n)*')


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """Exit status and output, without asyncio's own frames: hoop's are in C and not shown."""
    return done.returncode, done.stdout, ASYNCIO_FRAME.sub("", done.stderr)


class TestCommandLine:
    @pytest.mark.parametrize("way", WAYS_TO_A_LOOP)
    @pytest.mark.parametrize("target", ["script", "module"])
    def test_the_program_runs_on_hoop(self, way: str, target: str, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text(WAYS_TO_A_LOOP[way])
        args = ["program.py"] if target == "script" else ["-m", "program"]
        done = python("-W", "error", "-m", "hoop", "run", *args, cwd=tmp_path)
        assert done.stderr == ""
        assert done.stdout.startswith("hoop")
        assert done.returncode == 0

    @pytest.mark.parametrize("choice", HONOURED)
    def test_the_programs_choice_is_honoured(self, choice: str, tmp_path: Path) -> None:
        if choice == "own policy" and not WITH_POLICIES:
            pytest.skip("this Python has no policies")
        (tmp_path / "program.py").write_text(HONOURED[choice])
        done = python("-m", "hoop", "run", "program.py", cwd=tmp_path)
        assert outcome(done) == outcome(python("program.py", cwd=tmp_path))
        assert done.stdout.splitlines()[-1].startswith("asyncio.")

    @pytest.mark.parametrize("what", AS_UNDER_PYTHON)
    def test_a_script_runs_as_under_python(self, what: str, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "program.py").write_text(AS_UNDER_PYTHON[what], encoding="latin-1")
        command = ["folder/program.py", "-m", "--help", "run", "--", "last"]
        done = python("-m", "hoop", "run", *command, cwd=tmp_path)
        assert outcome(done) == outcome(python(*command, cwd=tmp_path))

    def test_safe_path(self, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text("import sys; print(sys.path)")
        done = python("-P", "-m", "hoop", "run", "program.py", cwd=tmp_path)
        assert outcome(done) == outcome(python("-P", "program.py", cwd=tmp_path))

    @pytest.mark.parametrize("what", ["what it sees", "exit code", "keyboard interrupt"])
    def test_a_module_runs_as_under_python(self, what: str, tmp_path: Path) -> None:
        package = tmp_path / "package"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(AS_UNDER_PYTHON[what])
        command = ["-m", "package", "-m", "--help", "--", "last"]
        done = python("-m", "hoop", "run", *command, cwd=tmp_path)
        expected = python(*command, cwd=tmp_path)
        assert outcome(done)[:2] == outcome(expected)[:2]
        assert done.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]

    def test_traceback_of_a_module_begins_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text("raise ValueError('here')\n")
        done = python("-m", "hoop", "run", "-mprogram", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[1] == (
            f'  File "{tmp_path / "program.py"}", line 1, in <module>'
        )

    @pytest.mark.parametrize("kind", ["folder", "zip file"])
    def test_folder_and_zip_file(self, kind: str, tmp_path: Path) -> None:
        folder = tmp_path / "program"
        folder.mkdir()
        code = "import helper, sys; print(helper.VALUE, sys.argv, __name__)\n"
        (folder / "__main__.py").write_text(code + WAYS_TO_A_LOOP["asyncio.run"])
        (folder / "helper.py").write_text("VALUE = 'found beside it'\n")
        target = "program"
        if kind == "zip file":
            target = "program.pyz"
            zipapp.create_archive(folder, tmp_path / target)
        done = python("-m", "hoop", "run", target, "--flag", cwd=tmp_path)
        first, second = done.stdout.splitlines()
        assert first == f"found beside it ['{target}', '--flag'] __main__"
        assert second.startswith("hoop")

    def test_a_spawned_process_finds_main(self, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text("""
import multiprocessing

def double(number):
    return 2 * number

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
""")
        done = python("-m", "hoop", "run", "program.py", cwd=tmp_path)
        assert outcome(done) == (0, "[2, 4]\n", "")

    def test_missing_file(self, tmp_path: Path) -> None:
        done = python("-m", "hoop", "run", "missing.py", cwd=tmp_path)
        expected = python("missing.py", cwd=tmp_path)
        assert done.returncode == expected.returncode == 2
        assert done.stderr.partition(":")[2] == expected.stderr.partition(":")[2]

    def test_missing_module(self, tmp_path: Path) -> None:
        done = python("-m", "hoop", "run", "-m", "missing", cwd=tmp_path)
        expected = python("-m", "missing", cwd=tmp_path)
        assert done.returncode == expected.returncode == 1
        assert done.stderr.partition(":")[2] == expected.stderr.partition(":")[2]

    @pytest.mark.parametrize("args", [[], ["walk"], ["run"], ["run", "-m"], ["run", "--fast"]])
    def test_usage_errors(self, args: list[str]) -> None:
        done = python("-m", "hoop", *args)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("usage: python -m hoop")

    @pytest.mark.parametrize("args", [["--help"], ["run", "--help"]])
    def test_help(self, args: list[str]) -> None:
        done = python("-m", "hoop", *args)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: python -m hoop")

    def test_version(self) -> None:
        done = python("-m", "hoop", "--version")
        assert done.returncode == 0
        assert done.stdout.split()[0] == "hoop"
        assert done.stdout.split()[1][0].isdigit()


class TestLoop:
    def test_a_refused_option_leaves_nothing_behind(self) -> None:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            hoop.new_event_loop(colour="red")
        assert os.listdir("/proc/self/fd") == before

    def test_asyncios_attributes_need_no_dictionary(self) -> None:
        """What asyncio's __init__ assigns are slots of hoop.Loop, for faster method look-ups."""
        loop = hoop.new_event_loop()
        try:
            assert loop.__dict__ == {}
        finally:
            loop.close()
