"""pytest-instafail: it shows failures at once."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood


@pytest.mark.needs("sandbox", "pytest-instafail")
def test_pytest_instafail_shows_failures_at_once(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_instafail")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    shown = neighbours.same("--instafail", "-v")
    assert shown.index("said before") < shown.index("::test_xfail")
