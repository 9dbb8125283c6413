"""Workflow commands and Markdown, as GitHub Actions reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_isolate.plugin.report import github


def report(test: str = "test_a.py::test_it", when: str = "call", **more: Any) -> Any:
    path, _, _ = test.partition("::")
    crash = SimpleNamespace(path=f"/build/project/{path}", lineno=12, message="assert 1 == 2\n where 1 = one()")
    fields = {
        "nodeid": test, "when": when, "location": (path, 6, "test_it"), "longrepr": SimpleNamespace(reprcrash=crash),
        "longreprtext": "all of it",
    }  # fmt: skip
    return SimpleNamespace(**fields | more)


def annotated(*reports: Any) -> list[str]:
    return [*github.annotate(reports, root="/build/project", workspace="/build")]


def test_an_annotation_is_at_the_line_that_failed_in_the_checkout() -> None:
    assert annotated(report()) == [
        "::error file=project/test_a.py,line=12,title=test_a.py%3A%3Atest_it::assert 1 == 2%0A where 1 = one()"
    ]


def test_a_failure_in_another_file_is_annotated_at_the_test() -> None:
    crash = SimpleNamespace(path="/usr/lib/python3/json.py", lineno=99, message="100% wrong")
    (line,) = annotated(report("test_a.py::test_it[a,b]", longrepr=SimpleNamespace(reprcrash=crash)))
    assert line == "::error file=project/test_a.py,line=7,title=test_a.py%3A%3Atest_it[a%2Cb]::100%25 wrong"


def test_an_error_says_in_which_phase_and_a_text_without_place_is_enough() -> None:
    (line,) = annotated(report(when="setup", longrepr="", longreprtext="memory cannot be enforced here"))
    assert line.endswith("::in setup: memory cannot be enforced here")
    assert len(annotated(*[report()] * 30)) == 10


def test_what_a_test_left_behind_and_keys_that_are_not_in_force_are_warnings() -> None:
    phases = [
        report(when=when, user_properties=[("isolate_leaks", "process: sleep, 7%")]) for when in ("setup", "call")
    ]
    quiet = report("test_a.py::test_quiet", user_properties=[("isolate_pids_peak", 1)])
    warned = [
        *github.warn([*phases, quiet], ["memory: no cgroup (2 tests)"], root="/build/project", workspace="/build")
    ]
    assert warned == [
        "::warning title=isolated with less than asked for::memory: no cgroup (2 tests)",
        "::warning file=project/test_a.py,line=12,title=test_a.py%3A%3Atest_it::left behind: process: sleep, 7%25",
    ]
    assert len([*github.warn(phases, ["x"] * 30, root="/", workspace="/")]) == 10


def test_the_summary_has_a_table_of_failures_that_no_text_can_break() -> None:
    crash = SimpleNamespace(path="x", lineno=1, message="a | b ` <script>\nmore")
    text = github.step_summary(
        [report("test_a.py::test_it[|]", longrepr=SimpleNamespace(reprcrash=crash))], 3, [("a title", ["1  2", "3  4"])]
    )
    assert text.splitlines() == [
        "### Isolated tests: 3 passed, 1 failed",
        "",
        "| test | why |",
        "|---|---|",
        "| `test_a.py::test_it[¦]` | `a ¦ b ' <script>` |",
        "",
        "#### A title",
        "",
        "    1  2",
        "    3  4",
        "",
    ]
    assert "| ... and 10 more | |" in github.step_summary([report()] * 60, 0, [])
