"""pytest-json-report: it writes the same, with the tests' metadata."""

from __future__ import annotations

import json

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood, without_times


@pytest.mark.needs("sandbox", "pytest-json-report")
def test_pytest_json_report_writes_the_same_and_its_metadata(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_metadata.plugin", "pytest_jsonreport.plugin")
    neighbours.project.write(
        test_it=OUTCOMES.replace("not random.random()", "number == 1")
        + "    def test_metadata(json_metadata): json_metadata['found'] = [1, 2]\n"
    )
    plain, isolated = map(
        json.loads, neighbours.files("report.json", "--json-report", "--json-report-file=report.json")
    )
    assert isolated["summary"] == plain["summary"]
    assert without_times(isolated["tests"]) == without_times(plain["tests"])
    assert isolated["tests"][-1]["metadata"] == {"found": [1, 2]}


@pytest.mark.needs("sandbox", "pytest-json-report")
@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_pytest_json_report_has_what_a_test_wrote_that_died(neighbours: Neighbourhood, phase: str) -> None:
    neighbours.load("pytest_metadata.plugin", "pytest_jsonreport.plugin")
    neighbours.project.write(
        test_it=f"""
        import os, pytest
        def act(phase):
            os.write(1, phase.encode())
            if phase == {phase!r}: os._exit(1)
        @pytest.fixture
        def fixture(): act("setup"); yield; act("teardown")
        def test_it(fixture): act("call")
        """
    )
    neighbours.isolated("--json-report", "--json-report-file=report.json")
    (test,) = json.loads((neighbours.path / "report.json").read_text())["tests"]
    assert test[phase]["stdout"] == phase
    assert "test_it.py:7: Failed" in test["call"]["longrepr"]
