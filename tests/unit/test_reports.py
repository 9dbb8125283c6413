"""Reports of one test, which pytest keeps to the end of the session."""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_isolate import reports


def report(when: Literal["setup", "call"], *, name: str = "test_it") -> pytest.TestReport:
    nodeid = f"test_it.py::{name}"
    return pytest.TestReport(nodeid, ("test_it.py", 300, name), {name: 1}, "passed", None, when)


def test_reports_of_a_test_share_what_is_alike() -> None:
    first, second = report("setup"), report("call")
    assert second.keywords is not first.keywords

    reports.share(second, first)

    assert second.keywords is first.keywords
    assert second.location is first.location
    assert second.when == "call"


def test_what_differs_stays_as_it_is() -> None:
    first, second = report("setup"), report("call", name="test_other")

    reports.share(second, first)

    assert second.nodeid == "test_it.py::test_other"
    assert second.keywords == {"test_other": 1}
    assert second.location == ("test_it.py", 300, "test_other")
