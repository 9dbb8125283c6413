"""What only the garbage collector finds is told of as in a plain run, where pytest collects when it ends."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

LEAKING = """
import asyncio, gc, socket, subprocess, tempfile
import pytest

class Holder:
    def __init__(self, **held):
        self.me = self
        vars(self).update(held)

async def never(): pass

def leak(): return Holder(held=socket.socket())

@pytest.fixture
def fixture(): return leak()

@pytest.fixture
def leaking_tear_down(): yield; leak()

def test_socket(): leak()
def test_file(): Holder(held=open(__file__))
def test_folder(): Holder(held=tempfile.TemporaryDirectory())
def test_coroutine(): Holder(held=never())
def test_fixture(fixture): pass
def test_tear_down(leaking_tear_down): pass
def test_after_a_collection_of_its_own():
    holder = leak()
    gc.collect()
    del holder
def test_beside_much_that_lives():
    holder, much = leak(), [[] for _ in range(20_000)]
    del holder
def test_that_fails():
    sock = socket.socket()
    assert 0
def test_nothing(): pass
"""
#: pytest-rerunfailures keeps the error of a test that failed, in a plain run, too.
PLAIN = ("-p", "no:rerunfailures")
LEAKS = [
    "socket", "file", "folder", "coroutine", "fixture", "tear_down", "after_a_collection_of_its_own",
    "beside_much_that_lives", "that_fails",
]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_what_a_test_leaves_in_a_cycle_warns_as_plainly_and_of_that_test(
    project: Project, options: tuple[str, ...]
) -> None:
    project.write(test_it=LEAKING)
    warned = [
        record for record in project.records("--isolate-all", "-W", "always", *PLAIN, *options) if "warning" in record
    ]
    # A worker and its controller both record it.
    assert [*dict.fromkeys(record["test"].removeprefix("test_it.py::test_") for record in warned)] == LEAKS
    kinds = {record["test"].rpartition("_")[2]: (record["category"], record["warning"]) for record in warned}
    assert kinds["coroutine"] == ("RuntimeWarning", "coroutine 'never' was never awaited")
    assert kinds["socket"][0] == kinds["folder"][0] == "ResourceWarning"


def test_with_warnings_as_errors_it_is_an_error_of_its_tear_down(project: Project) -> None:
    project.write(test_it=LEAKING)
    records = [record for record in project.records("--isolate-all", "-W", "error", *PLAIN) if "when" in record]
    failed = [record for record in records if record["when"] == "teardown" and record["outcome"] == "failed"]
    # A test that failed never came to close what its frames have: that is no second fault.
    assert [record["test"].removeprefix("test_it.py::test_") for record in failed] == LEAKS[:-1]
    assert LEAKS[-1] == "that_fails"
    assert "coroutine 'never' was never awaited" in failed[LEAKS.index("coroutine")]["text"]
    assert sum(record["when"] == "teardown" for record in records) == 10


def test_a_test_that_broke_off_gets_no_second_error(project: Project) -> None:
    """What it had open then is in its frames, which it never came to leave: anyio's suite had 73 errors more."""
    project.write(
        test_it="""
        import socket, unittest
        import pytest

        @pytest.fixture
        def fails():
            sock = socket.socket()
            raise LookupError("own")
        @pytest.fixture
        def skips():
            sock = socket.socket()
            pytest.skip("own")

        def test_set_up(fails): pass
        def test_skipped_set_up(skips): pass
        def test_skip():
            sock = socket.socket()
            pytest.skip("own")
        @pytest.mark.xfail
        def test_xfail():
            sock = socket.socket()
            assert 0
        class Test(unittest.TestCase):
            def test_it(self):
                sock = socket.socket()
                self.fail("own")
        """
    )
    options = ("-W", "error", *PLAIN)
    project.isolated(*options).assert_outcomes(errors=1, skipped=2, xfailed=1, failed=1)


def test_without_pytests_plugin_it_is_an_ordinary_warning(project: Project) -> None:
    project.write(test_it=LEAKING)
    result = project.isolated("-W", "always", "-p", "no:unraisableexception", "-k", "socket or nothing")
    result.assert_outcomes(passed=2, warnings=1)


def test_an_error_that_a_tear_down_had_before_stays(project: Project) -> None:
    project.write(
        test_it="""
        import socket, pytest
        @pytest.fixture
        def fixture():
            yield
            holder = []
            holder += [holder, socket.socket()]
            del holder
            raise LookupError("own")
        def test_it(fixture): pass
        """
    )
    result = project.isolated("-W", "error")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E*LookupError: own"])


@pytest.mark.parametrize("options", [(), ("--isolate-jobs=2",), ("--capture=sys",)])
def test_what_its_finalisers_write_and_log_is_output_of_the_tear_down(
    project: Project, options: tuple[str, ...]
) -> None:
    project.write(
        test_it="""
        import logging, sys

        class Loud:
            def __init__(self):
                self.me = self
            def __del__(self):
                print("printed at the end")
                print("complained at the end", file=sys.stderr)
                logging.error("logged at the end")

        def test_one(): Loud()
        def test_two(): pass
        """
    )
    result = project.isolated("-rP", "-v", *options)
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines(
        [
            r"test_it.py::test_one PASSED.*",
            r"test_it.py::test_two PASSED.*",
            "-+ Captured stdout teardown -+",
            "printed at the end",
            "-+ Captured stderr teardown -+",
            "complained at the end",
            "-+ Captured log teardown -+",
            "ERROR .*logged at the end",
        ]
    )
    for words in ("printed", "complained", "logged"):
        assert (result.stdout.str() + result.stderr.str()).count(f"{words} at the end") == 1


def test_a_generator_in_a_cycle_is_covered_to_its_end(project: Project) -> None:
    project.write(
        test_it="""
        def generate():
            try:
                yield
            finally:
                ended = True
        def test_it():
            holder = {"generator": generate()}
            holder["me"] = holder
            next(holder["generator"])
        """
    )
    result = project.isolated("--cov=test_it", "--cov-report=term-missing")
    result.stdout.re_match_lines([r"test_it.py +8 +0 +100%"])


def test_a_collection_that_is_due_at_the_fork_leaves_alone_what_pytest_has(project: Project) -> None:
    """One test in some thousands had a copy of the whole heap in its memory."""
    project.write(
        collections_seen="""
        import gc, os

        seen = []  # process, frozen objects

        def note(phase, info):
            if phase == "start":
                seen.append((os.getpid(), gc.get_freeze_count()))

        def make_due():
            gc.set_threshold(5, 1, 1)

        gc.callbacks.append(note)
        os.register_at_fork(before=make_due, after_in_parent=lambda: gc.set_threshold(700, 10, 10))
        """,
        conftest="import collections_seen",
        test_it="""
        import gc, os
        from collections_seen import seen

        def test_it():
            frozen = [frozen for process, frozen in seen if process == os.getpid()]
            assert frozen and min(frozen) > 1000
            assert gc.isenabled()

        def test_with_the_collector_off():
            gc.disable()

        def test_after_it():
            assert gc.isenabled()
        """,
    )
    project.isolated().assert_outcomes(passed=3)
