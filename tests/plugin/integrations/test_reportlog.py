"""pytest-reportlog: it writes the same."""

from __future__ import annotations

import json

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood, without_times


@pytest.mark.needs("sandbox", "pytest-reportlog")
def test_pytest_reportlog_writes_the_same(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_reportlog.plugin")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    logs = neighbours.files("log.jsonl", "--report-log=log.jsonl")
    plain, isolated = ([without_times(json.loads(line)) for line in log.splitlines()] for log in logs)
    assert isolated == plain
