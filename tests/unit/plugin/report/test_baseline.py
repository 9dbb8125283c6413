"""A run against a baseline: what is growth, what is noise, and what the file looks like."""

from __future__ import annotations

import pytest

from pytest_isolate.plugin.config import baseline_options
from pytest_isolate.plugin.report.baseline import comparison, stored
from pytest_isolate.plugin.report.baseline.stored import Measured, Spread

M = 1 << 20
NOISE = baseline_options.NOISE


def memory(*sizes: float) -> Measured:
    """Of runs that took so many megabytes."""
    return Measured(len(sizes), {"memory": Spread(min(sizes) * M, max(sizes) * M)})


def seconds(*values: float, figure: str = "time") -> Measured:
    return Measured(len(values), {figure: Spread(min(values), max(values))})


def grown(before: Measured, now: Measured) -> list[str]:
    return [str(each) for each in comparison.compare({"t.py::a": before}, {"t.py::a": now}, NOISE).grown]


@pytest.mark.parametrize("size", [8, 50, 4000])
def test_a_test_that_takes_40_percent_more_memory_has_grown(size: int) -> None:
    assert grown(memory(size), memory(size * 1.4)) != []
    assert grown(memory(size), memory(size * 1.2)) == []


def test_growth_is_told_with_what_was_before() -> None:
    assert grown(memory(10, 11), memory(15.4)) == ["t.py::a: memory 15.4M, was 10.0M to 11.0M in 2 runs, +40 %"]
    assert grown(seconds(1), seconds(5)) == ["t.py::a: time 5.00s, was 1.00s in 1 run, +400 %"]


def test_a_small_test_may_grow_by_the_floor() -> None:
    assert grown(memory(1), memory(3.9)) == []
    assert grown(memory(4.7), memory(7.0)) == []  # as with a huge page, of 2 MB
    assert grown(seconds(0.1), seconds(1.2)) == []  # as on a machine that has thirty others to run
    assert grown(seconds(0.1), seconds(2.2)) != []
    assert grown(seconds(0.01, figure="cpu"), seconds(0.4, figure="cpu")) == []


def test_a_test_whose_runs_differ_may_grow_by_as_much() -> None:
    assert grown(memory(10, 30), memory(49)) == []
    assert grown(memory(10, 30), memory(51)) != []


def test_what_makes_half_of_the_tests_slower_is_the_machine_and_told() -> None:
    names = [f"t.py::{number}" for number in range(30)]
    before = {name: seconds(1) for name in names}
    busy = {name: seconds(5) for name in names} | {names[0]: seconds(10), names[1]: seconds(16)}

    found = comparison.compare(before, busy, NOISE)

    assert [growth.test for growth in found.grown] == [names[1]]
    assert next(found.lines()).startswith("half of the tests took 5.0 times as much time or more")
    few = {name: busy[name] for name in names[:19]}
    assert len(comparison.compare(before, few, NOISE).grown) == 19
    larger = comparison.compare({name: memory(10) for name in names}, {name: memory(20) for name in names}, NOISE)
    assert len(larger.grown) == 30


def test_what_one_side_does_not_know_is_not_compared() -> None:
    found = comparison.compare({"t.py::a": seconds(1)}, {"t.py::a": memory(99)}, NOISE)
    assert (found.grown, found.compared, found.figures) == ((), 1, ())


def test_a_figure_can_be_left_out() -> None:
    assert comparison.compare({"a": memory(1)}, {"a": memory(99)}, {"time": (1.0, 0.0)}).grown == ()


def test_the_most_grown_comes_first_and_ten_are_named() -> None:
    before = {f"t.py::{number}": memory(10) for number in range(12)}
    run = {f"t.py::{number}": memory(20 + number) for number in range(12)}

    lines = [*comparison.compare(before, run, NOISE).lines()]

    assert lines[0].startswith("t.py::11: memory 31.0M")
    assert lines[-1] == "... and 2 more"
    assert len(lines) == 11


def test_new_tests_are_those_that_ran_and_gone_ones_those_of_a_file_that_was_collected() -> None:
    before = {"a.py::gone": memory(1), "a.py::skipped": memory(1), "b.py::elsewhere": memory(1)}
    run = {"a.py::new": memory(1)}

    found = comparison.compare(before, run, NOISE, collected={"a.py::new", "a.py::skipped"}, files={"a.py"})

    assert [*found.lines()] == ["new: a.py::new", "gone: a.py::gone"]
    merged = comparison.merge(before, run, found.gone)
    assert merged.keys() == {"a.py::new", "a.py::skipped", "b.py::elsewhere"}


def test_runs_merge_to_their_spread() -> None:
    merged = comparison.merge({"a": memory(5, 6)}, {"a": memory(4)}, ())
    assert merged == {"a": memory(5, 6, 4)}
    assert memory(1).joined(seconds(2)).figures.keys() == {"memory", "time"}


def test_the_file_is_sorted_text_that_is_read_as_it_was_written() -> None:
    tests = {"t.py::b[x y]": memory(1, 2).joined(seconds(0.5)), stored.name_of("t.py::a\t1"): seconds(1.25)}

    text = stored.render(tests)

    assert text.splitlines()[1:] == [
        "t.py::a\\t1\truns=1 time=1.250..1.250",
        "t.py::b[x y]\truns=3 memory=1024K..2048K time=0.500..0.500",
    ]
    assert stored.parse(text) == tests


def test_two_lines_of_a_test_are_joined_as_a_merge_leaves_them() -> None:
    line = "t.py::a\truns=1 memory=1024K..1024K\n"
    assert stored.parse(line + line.replace("1024", "2048")) == {"t.py::a": memory(1, 2)}


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", "t.py::a", "t.py::a\tmemory=1K..2K", "t.py::a\truns=1 memory=1K", "t.py::a\t", "a\truns=x"]
)
def test_any_other_line_is_an_error_that_names_it(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2 is none of a baseline"):
        stored.parse(f"# head\n{line}\n")


def test_figures_are_rounded_as_the_file_has_them_and_absent_ones_left_out() -> None:
    found = stored.measured({"isolate_memory_peak_bytes": 1025, "isolate_wall_seconds": 0.0126, "other": "x"})
    assert found == Measured(1, {"memory": Spread(2048, 2048), "time": Spread(0.013, 0.013)})
    assert stored.measured({"isolate_files_changed": 1}) is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [("memory:1.5:4M", ("memory", (1.5, 4 * M))), ("cpu:1:0", ("cpu", (1.0, 0.0))), ("time:off", ("time", None))],
)
def test_noise_is_a_factor_and_a_floor(word: str, meant: object) -> None:
    assert baseline_options.read_noise(word) == meant


@pytest.mark.parametrize("word", ["memory", "memory:1.5", "memory:0.5:1M", "memory:x:1M", "cpu:2:1M", "wall:2:1", ""])
def test_other_noise_is_an_error_that_says_what_is_allowed(word: str) -> None:
    with pytest.raises(ValueError, match=r"^allowed are FIGURE:FACTOR:FLOOR"):
        baseline_options.read_noise(word)
