"""The usage table: units, alignment, order, and what it takes from reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_isolate.plugin.report import summary
from pytest_isolate.plugin.report.summary import Row


@dataclass
class Report:
    nodeid: str
    user_properties: list[tuple[str, Any]] = field(default_factory=list)


def report(test: str, **figures: object) -> Report:
    return Report(test, [(f"isolate_{name}", value) for name, value in figures.items()])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0.0ms"), (0.0084, "8.4ms"), (0.0999, "99.9ms"), (0.09996, "100ms"),
        (0.127, "127ms"), (0.9994, "999ms"), (0.9996, "1.00s"),
        (1.268, "1.27s"), (9.996, "10.0s"), (95.04, "95.0s"), (99.96, "1min 40s"), (725.2, "12min 5s"),
    ],
)  # fmt: skip
def test_durations_have_three_figures(value: float | None, text: str) -> None:
    assert summary.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (512, "512"),
        (4096, "4.0K"),
        (52_428_800, "50.0M"),
        (1_610_612_736, "1.5G"),
        (1 << 41, "2.0T"),
        (1023, "1023"),
        ((1 << 20) - 1, "1.0M"),
        ((1 << 30) - 1, "1.0G"),
    ],
)
def test_sizes_are_in_the_units_of_limits(value: int | None, text: str) -> None:
    _, line = summary.table([Row(test="test", memory=value)])
    assert line.split()[2] == text


def test_columns_are_aligned_and_absent_figures_are_not_zero() -> None:
    rows = [
        Row(test="test_a.py::test_long_name", wall=0.0084, memory=1 << 30, pids=12),
        Row(test="test_b.py::test", wall=12.0, files=0),
    ]
    assert summary.table(rows) == [
        " wall  cpu  memory  pids  read  written  files  test",
        "8.4ms    –    1.0G    12     –        –      –  test_a.py::test_long_name",
        "12.0s    –       –     –     –        –      0  test_b.py::test",
    ]


def test_the_heaviest_in_memory_come_first_then_the_longest() -> None:
    reports = [
        report("light", memory_peak_bytes=1, wall_seconds=9),
        report("heavy", memory_peak_bytes=100, wall_seconds=1),
        report("unknown", wall_seconds=99),
        report("longer", memory_peak_bytes=1, wall_seconds=10),
    ]
    ((title, lines),) = summary.sections(reports, rows=3)
    assert title == "the 3 heaviest of 4 isolated tests, by memory peak"
    assert [line.split()[-1] for line in lines] == ["test", "heavy", "longer", "light"]


def test_without_figures_of_memory_the_title_says_that_time_counts() -> None:
    ((title, lines),) = summary.sections([report("short", wall_seconds=1), report("long", wall_seconds=2)], rows=10)
    assert title == "isolated tests by wall time"
    assert [line.split()[-1] for line in lines] == ["test", "long", "short"]


def test_the_phases_of_a_test_make_one_row() -> None:
    ((_, lines),) = summary.sections([report("test", wall_seconds=1)] * 3, rows=10)
    assert len(lines) == 2


def test_other_properties_and_reports_are_no_rows() -> None:
    assert list(summary.sections([Report("plain", [("mine", 1)]), object(), Report("none")], rows=10)) == []


def test_no_rows_asked_for_leave_the_table_out_but_not_what_is_not_in_force() -> None:
    reports = [
        report("one", wall_seconds=1, degraded="memory: why"),
        report("two", wall_seconds=1, degraded="memory: why; io: other"),
    ]
    ((title, lines),) = summary.sections(reports, rows=0)
    assert "less than asked for" in title
    assert lines == ["memory: why (2 tests)", "io: other (1 test)"]


def test_tests_that_left_something_are_named_the_worst_first() -> None:
    reports = [report(f"test_{number}", leaks="; ".join(["port 0.0.0.0:80"] * number)) for number in range(1, 13)]

    ((title, lines),) = summary.sections(reports, rows=0)

    assert title == "tests that left something behind (--isolate-leaks)"
    assert lines[0] == "test_12: port 0.0.0.0:80; port 0.0.0.0:80; and 10 more"
    assert lines[-1] == "... and 2 more tests"
    assert len(lines) == 11


def test_what_keeps_many_tests_from_running_side_by_side_is_told() -> None:
    reports = [report(f"test_{number}", wall_seconds=1.0) for number in range(100)]
    title, lines = list(summary.sections(reports, rows=10, alone={"a": 5, "b": 20}))[-1]
    assert title == "isolated tests that ran one at a time"
    assert lines[:2] == ["20 tests: b", "5 tests: a"]
    assert "exclusive=False" in lines[2]


@pytest.mark.parametrize(("rows", "alone"), [(0, {"a": 100}), (10, {"a": 12, "b": 12}), (10, {})])
def test_it_is_not_told_of_few_nor_where_no_table_is_asked_for(rows: int, alone: dict[str, int]) -> None:
    reports = [report(f"test_{number}", wall_seconds=1.0) for number in range(100)]
    assert not [title for title, _ in summary.sections(reports, rows=rows, alone=alone) if "at a time" in title]
