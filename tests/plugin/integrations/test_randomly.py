"""pytest-randomly: the same order and seeds."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood


@pytest.mark.needs("sandbox", "pytest-randomly")
def test_pytest_randomly_shuffles_and_seeds_as_in_a_plain_run(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_randomly")
    neighbours.project.write(test_it=OUTCOMES)
    assert "assert not 0." in neighbours.same("-v", "-p", "no:cacheprovider", "--randomly-seed=7")
