# SPDX-License-Identifier: MIT
"""The runner itself: what it must notice, it notices."""

import textwrap
from pathlib import Path

import pytest

from . import exclusions, verdict
from .suites import Suite
from .verdict import ModuleReport

SAMPLE = """
    import asyncio, os, signal, time, unittest
    from asyncio import unix_events

    class Loops(unittest.TestCase):
        def check(self, loop):
            loop.close()
            self.assertEqual(type(loop).__module__, "stock_loop")

        def test_new_event_loop(self):
            self.check(asyncio.new_event_loop())

        def test_selector_loop(self):
            self.check(asyncio.SelectorEventLoop(None))
            self.assertIsInstance(asyncio.SelectorEventLoop(), asyncio.SelectorEventLoop)

        def test_run(self):
            async def main():
                self.assertEqual(type(asyncio.get_running_loop()).__module__, "stock_loop")
            asyncio.run(main())

        def test_stray(self):
            unix_events._UnixSelectorEventLoop().close()

    class Case(unittest.IsolatedAsyncioTestCase):
        async def test_loop_of_a_case(self):
            self.assertEqual(type(asyncio.get_running_loop()).__module__, "stock_loop")

    def on_loop_under_test():
        loop = asyncio.new_event_loop()
        loop.close()
        return type(loop).__module__ == "stock_loop"

    class Failures(unittest.TestCase):
        def test_hang(self):
            if on_loop_under_test():
                time.sleep(60)

        def test_crash(self):
            if on_loop_under_test():
                os.kill(os.getpid(), signal.SIGSEGV)

        def test_exit(self):
            if on_loop_under_test():
                os._exit(0)

        def test_skip(self):
            if on_loop_under_test():
                self.skipTest("only on stock")

        def test_subtest(self):
            with self.subTest():
                self.assertFalse(on_loop_under_test())

        def test_fails_everywhere(self):
            self.fail()

        def test_after_it_all(self):
            pass

    class Fixture(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            assert not on_loop_under_test()

        def test_one(self):
            pass
"""


def judge_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, entries: str = ""
) -> ModuleReport:
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "test_sample.py").write_text(textwrap.dedent(source), encoding="utf-8")
    listed = tmp_path / "exclusions.txt"
    listed.write_text(textwrap.dedent(entries), encoding="utf-8")
    monkeypatch.setattr(exclusions, "LIST", listed)
    suite = Suite("sample", "sample", ("test_sample",), paths=(tmp_path,))
    return verdict.judge(suite, "test_sample", "stock_loop:Loop", test_timeout=2)


def test_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = judge_sample(tmp_path, monkeypatch, SAMPLE)
    assert {test: outcome.status for test, outcome in report.failed.items()} == {
        "test_sample.Failures.test_hang": "hang",
        "test_sample.Failures.test_crash": "crash",
        "test_sample.Failures.test_exit": "crash",
        "test_sample.Failures.test_skip": "skip",
        "test_sample.Failures.test_subtest": "fail",
        "test_sample.Fixture.test_one": "fail",
    }
    assert set(report.stock_fails) == {"test_sample.Failures.test_fails_everywhere"}
    assert set(report.passed) == {
        "test_sample.Loops.test_new_event_loop",
        "test_sample.Loops.test_run",
        "test_sample.Loops.test_selector_loop",
        "test_sample.Loops.test_stray",
        "test_sample.Case.test_loop_of_a_case",
        "test_sample.Failures.test_after_it_all",
    }
    assert report.on_loop == 4
    assert report.strays == ["test_sample.Loops.test_stray"]
    assert "time.sleep(60)" not in report.failures()
    assert "in test_hang" in report.failures()


def test_import_that_fails_on_the_loop_under_test_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import asyncio
        loop = asyncio.new_event_loop()
        loop.close()
        assert type(loop).__module__ != "stock_loop", "seen"
    """
    report = judge_sample(tmp_path, monkeypatch, source)
    assert list(report.failed) == ["test_sample"]
    assert "seen" in report.failures()


def test_exclusions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = """
        sample:test_sample.Failures.test_[ce]* # names two
        sample:test_sample.Failures.test_hang skip # would take long
        sample:test_sample.Fixture [3.11-] # a class
        sample:test_sample.Loops.test_run # passes
        sample:test_sample.Failures.test_subtest [3.0-3.9] # of another version
        sample:test_sample.Failures.test_of_another_release # as yet unknown here
    """
    report = judge_sample(tmp_path, monkeypatch, SAMPLE, entries)
    assert {test: outcome.status for test, outcome in report.excluded.items()} == {
        "test_sample.Failures.test_crash": "crash",
        "test_sample.Failures.test_exit": "crash",
        "test_sample.Failures.test_hang": "not run",
        "test_sample.Fixture.test_one": "fail",
        "test_sample.Loops.test_run": "pass",
    }
    assert set(report.failed) == {
        "test_sample.Failures.test_skip",
        "test_sample.Failures.test_subtest",
    }
    assert report.stale == ["exclusions.txt:5: sample:test_sample.Loops.test_run"]


def test_line_of_the_list_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match=r"exclusions\.txt:2"):
        exclusions.parse(["# a comment", "cpython:test_events.X.y"])
