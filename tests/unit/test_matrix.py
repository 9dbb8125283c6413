"""``python -m tests.matrix``: its cases are there, and a cell is green only for what was seen."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.cases.catalogue import CASES, LAYOUTS, Case
from tests.matrix import table
from tests.matrix.places import Place

TESTS = Path(__file__).parents[1]
PLACE = Place("here-root", "6.8, v1", "root")
OWN = [f"tests/cases/test_cases.py::test_case[{layout}-fork_bomb]" for layout in LAYOUTS]
CASE = Case(group="processes", name="fork_bomb", tests=("plugin/test_ends.py::test_it",))
PASSED = dict.fromkeys([*OWN, "tests/plugin/test_ends.py::test_it[1]"], table.Result("passed"))


def test_each_case_has_its_function_and_no_function_is_without_a_case() -> None:
    named = {case.name for case in CASES if case.inside}
    there = {
        name
        for path in (TESTS / "cases" / "inside").glob("*.py")
        for name in re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE)
    }
    assert named == there
    assert max(Counter(case.name for case in CASES).values()) == 1


def test_the_other_tests_of_a_case_are_there() -> None:
    for case in CASES:
        assert case.inside or case.tests, case.name
        for test in case.tests:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (TESTS / path).read_text() if name else (TESTS / path).is_file(), test


def test_a_cell_is_green_where_every_test_of_it_has_passed() -> None:
    cell = table.cell(CASE, PASSED)
    assert (cell.passed, cell.skipped, cell.failed, cell.is_green) == (5, [], [], True)


def test_a_cell_is_red_where_a_test_has_failed_or_was_not_run() -> None:
    failed = table.cell(CASE, PASSED | {OWN[1]: table.Result("failed", "assert 1 == 2")})
    missing = table.cell(CASE, {name: PASSED[name] for name in OWN})
    for cell in failed, missing, table.cell(CASE, {}):
        assert not cell.is_green
        assert "**failed**" in table.markdown([CASE], [PLACE], {(CASE.name, PLACE.name): cell})


def test_a_reason_stands_below_the_table() -> None:
    reason = "needs pids: this kernel has no such controller"
    skipped = table.cell(CASE, PASSED | dict.fromkeys(OWN, table.Result("skipped", reason)))

    text = table.markdown([CASE], [PLACE], {(CASE.name, PLACE.name): skipped})

    assert "| `fork_bomb` | any | passed [1] |" in text
    assert text.endswith(f"\n1. {reason}\n")


def test_results_are_read_by_path_name_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "results.xml"
    file.write_text(
        """<testsuites><testsuite>
        <testcase classname="tests.plugin.test_ends" name="test_it[a]"/>
        <testcase classname="tests.plugin.test_ends" name="test_other"><skipped message="why"/></testcase>
        <testcase classname="tests.plugin.test_ends" name="test_third"><error message="how&#10;more"/></testcase>
        </testsuite></testsuites>"""
    )
    assert table.read(file) == {
        "tests/plugin/test_ends.py::test_it[a]": table.Result("passed"),
        "tests/plugin/test_ends.py::test_other": table.Result("skipped", "why"),
        "tests/plugin/test_ends.py::test_third": table.Result("failed", "how"),
    }
