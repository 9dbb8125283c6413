"""pytest-testmon: nobody may believe that it knows what isolated tests run."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

pytestmark = pytest.mark.needs("sandbox", "pytest-testmon")


@pytest.fixture
def testmon(neighbours: Neighbourhood) -> Neighbourhood:
    neighbours.load("testmon.pytest_testmon", "cacheprovider")
    neighbours.project.write(test_it="def test_it(): pass")
    return neighbours


def test_it_cannot_learn_of_isolated_tests(testmon: Neighbourhood) -> None:
    result = testmon.project.run("--isolate-all", "--testmon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("--testmon does not see what isolated tests run" in line for line in result.errlines), result.errlines


def test_it_learns_in_a_session_sandbox_and_chooses_among_isolated_tests(testmon: Neighbourhood) -> None:
    run = testmon.project.run
    run("--isolate-session", "--testmon").assert_outcomes(passed=1)
    run("--isolate-all", "--testmon-nocollect").assert_outcomes()
    testmon.project.write(test_it="def test_it(): assert 1")
    run("--isolate-all", "--testmon-nocollect").assert_outcomes(passed=1)
