"""Hypothesis' own source of random numbers; what it keeps is in fixtures/test_kept_folders.py."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytest.importorskip("hypothesis")

#: Booleans, as numbers are also taken from the modules of the project that are loaded, and those of ours may be such.
DRAWING = """
    import hypothesis.core, pytest
    from hypothesis import given, settings, strategies

    @given(strategies.integers())
    def test_first(value): assert isinstance(value, int)

    @pytest.mark.parametrize("number", range(3))
    def test_drawn(number, record_property):
        drawn = []
        @settings(max_examples=10, database=None)
        @given(strategies.lists(strategies.booleans(), min_size=32))
        def inner(value): drawn.append(value)
        inner()
        record_property("drawn", drawn)
"""


@pytest.mark.parametrize("options", [[], ["--hypothesis-seed=0"]], ids=["random", "seeded"])
def test_its_numbers_are_drawn_as_in_a_plain_run_and_nothing_is_said(project: Project, options: list[str]) -> None:
    """Python 3.14 and newer let hypothesis think that nothing refers to its source of numbers."""
    project.write(test_it=DRAWING, test_last=DRAWING)
    project.load("hypothesispytest")
    options = ["-W", "error", *options]
    project.isolated(*options).assert_outcomes(passed=8)
    plain, isolated = (drawn(project, *more, *options) for more in ([], ["--isolate-all"]))
    if "--hypothesis-seed=0" in options:
        assert isolated == plain
    else:
        assert len({*map(str, isolated)}) == len(isolated) == 6


def drawn(project: Project, *options: str) -> list[list[list[bool]]]:
    calls = [dict(record["properties"]) for record in project.records(*options) if record["when"] == "call"]
    return [found["drawn"] for found in calls if "drawn" in found]
