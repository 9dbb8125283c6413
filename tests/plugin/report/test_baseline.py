"""Runs that are compared with what a file has of earlier ones."""

from __future__ import annotations

import pytest

from tests.support.project import Project

#: Of the test that grows, as the project's environment says; of others 10 MB.
USAGE = """Usage(
    wall_seconds=0.01,
    memory_peak_bytes=(int(__import__("os").environ["PEAK"]) if "test_grows" in str(messages) else 10) << 20,
)"""
TESTS = """
import pytest

def test_grows(): pass
def test_stays(): pass
def test_fails(): assert 0
def test_goes(): pass
"""


def test_a_test_that_grew_by_40_percent_is_named_in_the_second_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    project.fake_keeper(usage=USAGE)
    project.write(test_it=TESTS)
    monkeypatch.setenv("PEAK", "10")

    first = project.isolated("-n2", "--isolate-baseline=base.txt", "--isolate-baseline-update")

    first.stdout.fnmatch_lines(
        [
            "*= compared with the baseline (--isolate-baseline) =*",
            "new: test_it.py::test_goes, *",
            "3 tests stored in *",
        ]
    )
    file = project.path / "base.txt"
    assert file.read_text().splitlines()[1:] == [
        f"test_it.py::{name}\truns=1 memory=10240K..10240K time=0.010..0.010"
        for name in ("test_goes", "test_grows", "test_stays")
    ]

    project.write(test_it=TESTS.replace("goes", "comes").replace("assert 0", "pass"))
    monkeypatch.setenv("PEAK", "14")
    second = project.isolated("--isolate-baseline=base.txt", "--isolate-baseline-fail")

    second.assert_outcomes(passed=4)
    assert second.ret == pytest.ExitCode.TESTS_FAILED
    second.stdout.fnmatch_lines(
        [
            "test_it.py::test_grows: memory 14.0M, was 10.0M in 1 run, +40 %",
            "new: test_it.py::test_comes, test_it.py::test_fails",
            "gone: test_it.py::test_goes",
            "2 tests compared by memory, time: 1 grew beyond noise, which fails the run (--isolate-baseline-fail); *",
        ]
    )


def test_what_is_wrong_with_a_baseline_is_a_usage_error(project: Project) -> None:
    project.write(test_it=TESTS)
    (project.path / "bad.txt").write_text("=======\n")

    bad = project.isolated("--isolate-baseline=bad.txt")
    wrong = project.isolated("--isolate-baseline-update", "--isolate-baseline-noise=memroy:2:1M")
    missing = project.isolated("-oisolate_baseline=missing.txt", "--isolate-baseline-fail")

    assert {bad.ret, wrong.ret, missing.ret} == {pytest.ExitCode.USAGE_ERROR}
    bad.stderr.fnmatch_lines(["ERROR: --isolate-baseline: *bad.txt: line 1 is none of a baseline. *"])
    wrong.stderr.fnmatch_lines(
        [
            "ERROR: command line: --isolate-baseline-noise: 'memroy:2:1M': allowed are *Did you mean memory?",
            "ERROR: --isolate-baseline-update: write --isolate-baseline=FILE as well.",
        ]
    )
    missing.stderr.fnmatch_lines(
        ["ERROR: command line: -o isolate_baseline: there is no *missing.txt to compare with;*"]
    )
