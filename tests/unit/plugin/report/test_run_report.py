"""The report of a run: its data, and the page that is made of them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.plugin.report.run_report import data, page
from pytest_isolate.sandbox.outcome import Change, Leak, Outcome, Usage
from pytest_isolate.spec.spec import Spec

_SCHEMA = Path(__file__).parents[4] / "docs" / "report.md"
_VOID = {"meta", "input", "br"}  # elements that have no end


def report(when: str, outcome: str = "passed", test: str = "test_it.py::test_it", **more: Any) -> pytest.TestReport:
    fields: dict[str, Any] = {"longrepr": None, "duration": 0.5, "start": 1010.0, "stop": 1010.5} | more
    return pytest.TestReport(
        nodeid=test, location=("test_it.py", 1, "test_it"), keywords={}, outcome=outcome, when=when, **fields  # type: ignore[arg-type]
    )  # fmt: skip


def recorded(*reports: pytest.TestReport) -> dict[str, Any]:
    test = data.Test("test_it.py::test_it")
    for each in reports:
        test.add(each)
    return test.as_data(began=1000.0)


@pytest.mark.parametrize(
    ("reports", "outcome"),
    [
        ([report("setup"), report("call"), report("teardown")], "passed"),
        ([report("setup"), report("call", "failed"), report("teardown", "failed")], "failed"),
        ([report("setup"), report("call"), report("teardown", "failed")], "error"),
        ([report("setup", "failed"), report("teardown")], "error"),
        ([report("setup", "skipped", longrepr=("test_it.py", 1, "Skipped: why")), report("teardown")], "skipped"),
        ([report("setup"), report("call", "skipped", wasxfail="known"), report("teardown")], "xfailed"),
        ([report("setup"), report("call", wasxfail="known"), report("teardown")], "xpassed"),
        ([report("???", "failed", longrepr="worker 'gw0' crashed")], "failed"),
    ],
)
def test_the_worst_of_its_phases_is_a_tests_outcome(reports: list[pytest.TestReport], outcome: str) -> None:
    assert recorded(*reports)["outcome"] == outcome


def test_the_last_attempt_counts() -> None:
    again = [report("setup"), report("call", "rerun", longrepr="no"), report("teardown")]

    found = recorded(*again, report("setup", start=1020.0), report("call"), report("teardown"))

    assert (found["outcome"], found["attempts"], found["started"], found["seconds"]) == ("passed", 2, 20.0, 1.5)


def test_a_long_text_keeps_its_ends() -> None:
    text = data.shorten("a" * 15_000 + "b" * 15_000)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert "... 10000 characters left out ..." in text


def document() -> dict[str, Any]:
    """One of each kind of test."""
    usage = Usage(wall_seconds=1, memory_peak_bytes=60 << 20, changes=(Change("A", "/<x>"),))
    outcome = Outcome(
        spec=Spec.of(memory="50M"), usage=usage, signal=9, oom_kills=1, leaks=(Leak("port", "0.0.0.0:80", ""),),
        degraded=(("cpus", "no controller"),),
    )  # fmt: skip
    boxed = report("teardown", "failed", longrepr="</pre><script>alert(1)</script>", sections=[("Captured log", "a&b")])
    vars(boxed)[data.ATTRIBUTE] = json.loads(json.dumps(data.sandbox(outcome)))  # as it comes from a worker
    names = ("test_it.py::test_it", 'test_it.py::test_it["]', "test_it.py::test_plain")
    tests = [data.Test(name) for name in names]
    for each in (report("setup"), report("call"), boxed):
        tests[1].add(each)
    for test in (tests[0], tests[2]):
        test.add(report("setup"))
        test.add(report("call"))
    run = {
        "started": 1000.0, "seconds": 20.0, "exit_status": 1, "arguments": ["-k", "<b>"], "folder": "/project",
        "python": "3.12", "pytest": "9", "isolate": "1", "system": "Linux",
    }  # fmt: skip
    return data.document(run, tests, [{"id": "test_bad.py", "text": "ImportError: <x>"}])


def test_the_documentation_has_every_field() -> None:
    found = document()
    tables = re.findall(r"^\| (`.*?`) \|", _SCHEMA.read_text(), re.MULTILINE)
    documented = {name for row in tables for name in re.findall(r"`(\w+)`", row)}

    box = next(test["sandbox"] for test in found["tests"] if test["sandbox"])
    there = {*found, *found["run"], *found["tests"][0], *box}
    assert documented == there
    assert {*box["limits"], *box["usage"]} <= set(re.findall(r"`(\w+)`", _SCHEMA.read_text()))
    assert box["failure"] == "exceeded memory=50M (peak 60.0M, OOM-killed)"


class Page(HTMLParser):
    """Reads a page, and sees that each element ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)


def test_the_page_is_whole_shows_texts_as_they_are_and_needs_no_other_file() -> None:
    read = Page(page.render(document()))

    assert read.open == []
    assert [tag for tag, _, _ in read.attributes].count("script") == 0  # it has one, without attributes
    assert "</pre><script>alert(1)</script>" in read.texts
    assert "ImportError: <x>" in read.texts
    assert "A /<x>" in read.texts
    assert 'test_it.py::test_it["]' in read.texts
    assert not [each for each in read.attributes if each[1] in ("src", "srcset") or "//" in each[2]]
    assert "url(" not in page.render(document())


def test_the_page_has_failures_first_and_bars_lead_to_their_rows() -> None:
    read = Page(page.render(document()))
    rows = [value for tag, name, value in read.attributes if (tag, name) == ("tr", "id")]
    assert rows == ["t1", "t0", "t2"]
    assert [value for tag, name, value in read.attributes if (tag, name) == ("a", "href")] == ["#t0", "#t1", "#t2"]


def test_a_run_without_tests_has_a_page() -> None:
    empty = data.document(document()["run"], [], [])
    assert "no tests" in Page(page.render(empty)).texts
