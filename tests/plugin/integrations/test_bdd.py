"""pytest-bdd: it reports the steps."""

from __future__ import annotations

import json

import pytest

from tests.support.neighbourhood import Neighbourhood, without_times


@pytest.mark.needs("sandbox", "pytest-bdd")
def test_pytest_bdd_reports_the_steps(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_bdd.plugin")
    (neighbours.path / "it.feature").write_text(
        """
        Feature: It
          Scenario: works
            Given something
            Then it holds
          Scenario: fails
            Given something
            Then it does not hold
        """
    )
    neighbours.project.write(
        test_it="""
        from pytest_bdd import scenarios, given, then

        scenarios("it.feature")
        @given("something", target_fixture="something")
        def something(): return 1
        @then("it holds")
        def holds(something): assert something == 1
        @then("it does not hold")
        def does_not_hold(something): assert something == 2
        """
    )
    assert "Then it does not hold" in neighbours.same("--gherkin-terminal-reporter", "-vv")
    plain, isolated = map(json.loads, neighbours.files("it.json", "--cucumberjson=it.json"))
    assert without_times(isolated) == without_times(plain)
    assert [len(scenario["steps"]) for scenario in isolated[0]["elements"]] == [2, 2]
