"""pytest-sugar: it shows the same."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood


@pytest.mark.needs("sandbox", "pytest-sugar")
def test_pytest_sugar_shows_the_same(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_sugar")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    assert "3 failed" not in neighbours.same("--force-sugar")
