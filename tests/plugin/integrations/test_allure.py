"""allure-pytest: it writes the same results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.neighbourhood import Neighbourhood, without_times

ALLURE = """
    import allure
    import pytest

    @pytest.fixture(scope="module")
    def wide(): yield
    @pytest.fixture
    def narrow(wide): yield
    @allure.step("a step of {name}")
    def step(name): pass
    @allure.title("With a title")
    @allure.feature("It")
    def test_pass(narrow):
        step("ours")
        with allure.step("outer"):
            allure.attach("text", "note", allure.attachment_type.TEXT)
    @pytest.mark.parametrize("number", [1, 2])
    def test_number(number, wide):
        allure.dynamic.link("https://example.org")
        print("said")
        assert number == 1
    @pytest.mark.xfail(reason="known")
    def test_xfail(): assert 0
    @pytest.mark.skip(reason="not now")
    def test_skip(wide): pass
    def test_skips(): pytest.skip("found out")
"""


@pytest.mark.needs("sandbox", "allure-pytest")
def test_allure_writes_the_same_results(neighbours: Neighbourhood) -> None:
    neighbours.load("allure_pytest.plugin")
    neighbours.project.write(test_it=ALLURE)
    found = []
    for run in (neighbours.plain, neighbours.isolated):
        run("--alluredir=results", "--clean-alluredir")
        found.append(_allure_results(neighbours.path / "results"))
    plain, isolated = found
    assert isolated == plain
    assert [result["status"] for result in isolated[0]] == ["passed"] * 2 + ["failed"] + ["skipped"] * 3


@pytest.mark.needs("sandbox", "allure-pytest")
def test_allure_has_a_result_of_a_test_that_died(neighbours: Neighbourhood) -> None:
    neighbours.load("allure_pytest.plugin")
    neighbours.project.write(
        test_it="""
        import os, allure

        @allure.feature("It")
        def test_dies(): os.kill(os.getpid(), 9)
        """
    )
    neighbours.isolated("--alluredir=results")
    ((result,), _) = _allure_results(neighbours.path / "results")
    assert (result["name"], result["status"]) == ("test_dies", "failed")
    assert "killed by SIGKILL" in result["statusDetails"]["message"]
    assert {"name": "feature", "value": "It"} in result["labels"]


def _allure_results(folder: Path) -> tuple[list[Any], list[int]]:
    """Tests by name, with the texts of their attachments, and how many tests the fixture ``wide`` was for."""
    tests = [json.loads(path.read_text()) for path in folder.glob("*-result.json")]
    groups = [json.loads(path.read_text()) for path in folder.glob("*-container.json")]
    for test in tests:
        test["labels"] = [label for label in test["labels"] if label["name"] != "thread"]
        for part in (test, *test.get("steps", ())):
            for attachment in part.get("attachments", ()):
                attachment["source"] = (folder / attachment["source"]).read_text()
    wide = [len(group["children"]) for group in groups if "wide" in [before["name"] for before in group["befores"]]]
    return sorted(without_times(tests), key=str), wide
