"""The usage table and the notes of the terminal summary: reports in, lines of text out.

Reads only what travels with reports (``user_properties``), so an xdist controller shows the same as a plain run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

ABSENT = "–"
#: Of the usage table, unless somebody has chosen a number.
ROWS = 10
#: Title of the section about keys that are not in force.
DEGRADED = "isolated with less than asked for (--isolate-unsupported=degrade)"
_PREFIX = "isolate_"
_NAMED = 2  # leaks of a test
_MANY = 3  # modules for each test of the run, in the mean, which takes a millisecond or more

#: How many tests that ran alone are worth a word: so many, and one of so many.
_ALONE, _PART = 20, 4


class Row(NamedTuple):
    """Figures of one test; None where the kernel gave none."""

    test: str
    wall: float | None = None
    cpu: float | None = None
    memory: int | None = None
    pids: int | None = None
    read: int | None = None
    written: int | None = None
    files: int | None = None

    @property
    def weight(self) -> tuple[float, float]:
        """What the table is sorted by."""
        return (self.memory or 0, self.wall or 0)


def sections(
    reports: Iterable[object],
    *,
    rows: int,
    imported: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    alone: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each part of the summary; nothing if no test was isolated.

    :param rows: of the usage table, 0 for none.
    :param imported: how many modules tests have imported anew, by package, and in how many tests.
    :param alone: how many tests have run alone where several may run at a time, by what they reach.
    """
    tests = _properties_by_test(reports)
    found = [_row(test, properties) for test, properties in tests.items()]
    if rows and found:
        heaviest = sorted(found, key=lambda row: row.weight, reverse=True)[:rows]
        by = "memory peak" if any(row.memory is not None for row in found) else "wall time"
        title = (
            f"isolated tests by {by}"
            if len(found) <= rows
            else f"the {rows} heaviest of {len(found)} isolated tests, by {by}"
        )
        yield title, table(heaviest)
    if rows and (anew := _imported_anew(imported, len(found))):
        yield "imported anew in many sandboxes", anew
    if rows and sum(alone.values()) >= max(_ALONE, len(found) / _PART):
        yield "isolated tests that ran one at a time", _ran_alone(alone)
    if leaks := _left_behind(tests):
        yield "tests that left something behind (--isolate-leaks)", leaks
    if missing := _not_in_force(tests):
        yield DEGRADED, missing


def _imported_anew(imported: Mapping[str, tuple[int, int]], tests: int) -> list[str]:
    often = [(modules, package, times) for package, (modules, times) in imported.items() if modules >= _MANY * tests]
    return [
        f"{package}: {modules // times} modules in each of {times} tests; if conftest.py imports it, once for all"
        for modules, package, times in sorted(often, reverse=True)
        if times > 1
    ]


def _ran_alone(alone: Mapping[str, int]) -> list[str]:
    often = sorted(alone.items(), key=lambda each: each[1], reverse=True)
    hint = "Those that do not disturb one another run side by side if they have exclusive=False."
    return [*(f"{number} tests: {why}" for why, number in often), hint]


def table(rows: Sequence[Row]) -> list[str]:
    """Aligned lines: numbers to the right, the test's name last, so that its length does not matter."""
    from pytest_isolate.spec.sizes import size_text  # noqa: PLC0415 - each run of pytest looks for isolated tests here

    def size(value: int | None) -> str:
        return ABSENT if value is None else size_text(value, 1)

    header = ("wall", "cpu", "memory", "pids", "read", "written", "files", "test")
    cells = [header] + [
        (
            seconds(row.wall),
            seconds(row.cpu),
            size(row.memory),
            count(row.pids),
            size(row.read),
            size(row.written),
            count(row.files),
            row.test,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header) - 1)]
    return [
        "  ".join([cell.rjust(width) for cell, width in zip(line, widths, strict=False)] + [line[-1]]) for line in cells
    ]


def seconds(value: float | None) -> str:
    """Three figures that matter: ``8.4ms``, ``1.27s``, ``95.0s``, ``12min 5s``."""
    if value is None:
        return ABSENT
    if value < 0.9995:  # noqa: PLR2004 - rounds to 1000 ms above
        return f"{value * 1000:.1f}ms" if value < 0.09995 else f"{value * 1000:.0f}ms"  # noqa: PLR2004
    if value < 9.995:  # noqa: PLR2004
        return f"{value:.2f}s"
    if value < 99.95:  # noqa: PLR2004
        return f"{value:.1f}s"
    return f"{round(value) // 60}min {round(value) % 60}s"


def count(value: int | None) -> str:
    """A number as it is."""
    return ABSENT if value is None else str(value)


def _properties_by_test(reports: Iterable[object]) -> dict[str, dict[str, Any]]:
    """Properties of each isolated test, in order of running; all phases of a test carry the same ones."""
    tests: dict[str, dict[str, Any]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", None) or ():
            if str(name).startswith(_PREFIX):
                tests.setdefault(report.nodeid, {})[name.removeprefix(_PREFIX)] = value  # type: ignore[attr-defined]
    return tests


def _row(test: str, properties: dict[str, Any]) -> Row:
    get = properties.get
    return Row(
        test=test,
        wall=get("wall_seconds"),
        cpu=get("cpu_seconds"),
        memory=get("memory_peak_bytes"),
        pids=get("pids_peak"),
        read=get("read_bytes"),
        written=get("write_bytes"),
        files=get("files_changed"),
    )


def _left_behind(tests: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each of the worst tests, with what it left first."""
    found = {test: str(properties["leaks"]).split("; ") for test, properties in tests.items() if "leaks" in properties}
    worst = sorted(found.items(), key=lambda pair: len(pair[1]), reverse=True)
    lines = []
    for test, leaks in worst[:ROWS]:
        more = f"; and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else ""
        lines.append(f"{test}: {'; '.join(leaks[:_NAMED])}{more}")
    if len(worst) > ROWS:
        lines.append(f"... and {len(worst) - ROWS} more tests")
    return lines


def _not_in_force(tests: dict[str, dict[str, Any]]) -> list[str]:
    """One line per key and reason, with the number of tests."""
    seen: dict[str, int] = {}
    for properties in tests.values():
        for part in str(properties.get("degraded", "")).split("; "):
            if part:
                seen[part] = seen.get(part, 0) + 1
    return [f"{part} ({number} test{'s' if number > 1 else ''})" for part, number in seen.items()]
