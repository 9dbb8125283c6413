"""What was measured: records, as JSON and as tables of Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from benchmarks.measure import Figures, Row

START = "start"  #: as if it were a way: a plain run of one test, for the CPU time of starting

Key = tuple[Row, str, str]
"""Row, user and way."""

Found = dict[Key, list[Figures]]
"""One of each round."""

Triple = tuple[float | None, float | None, float | None]
"""Wall time per test, median step, and CPU time per test: milliseconds, or ratios."""


@dataclass(frozen=True, slots=True)
class Record:
    """Of one row, user and way: medians over the rounds."""

    row: Row
    tests_run: int  #: fewer than the row's in a way that takes too long
    rounds: int
    user: str
    way: str
    label: str
    milliseconds: Triple
    per_fork: Triple  #: ratios to the bare fork of the same row, user and round
    per_forked: Triple  #: the same to pytest-forked
    drift: float
    peak_mb: float | None
    faults: tuple[float, float] | None = None  #: page faults per test: in pytest, in its children
    faults_per_fork: float | None = None  #: ratio of both together
    python: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run has found."""

    about: dict[str, str]
    records: list[Record]
    not_measured: list[str]  #: a sentence each
    caveats: list[str]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        found = json.loads(path.read_text())
        records = [Record(**(record | {"row": Row(**record["row"])})) for record in found["records"]]
        return cls(found["about"], records, found["not_measured"], found["caveats"])


def records(found: Found, labels: dict[str, str], capped: Callable[[Row, str], Row], python: str) -> list[Record]:
    """Of all that were measured at least once. ``capped`` is the row as it was run, in fewer tests maybe."""
    return [
        replace(_record(found, key, labels[key[2]], capped(key[0], key[2]).tests), python=python)
        for key, figures in found.items()
        if key[2] != START and figures
    ]


def _record(found: Found, key: Key, label: str, tests: int) -> Record:
    row, user, way = key
    starts = found[row, user, START]

    def costs(of: str, count: int) -> list[tuple[float, float, float]]:
        # The CPU time of a start of pytest and of the collection is in all ways alike.
        return [
            (one.wall / count * 1000, one.step * 1000, (one.cpu - start.cpu) / count * 1000)
            for one, start in zip(found.get((row, user, of), []), starts, strict=False)
        ]

    mine = costs(way, tests)

    def ratios(of: str) -> Triple:
        # Of a round, then the median: what else the machine did meanwhile is in both.
        pairs = [tuple(zip(*both, strict=True)) for both in zip(mine, costs(of, row.tests), strict=False)]
        return _triple(_median([a / b for a, b in column if a > 0 and b > 0]) for column in zip(*pairs, strict=True))

    figures = found[key]
    peaks = [one.peak for one in figures if one.peak is not None]
    return Record(
        row=row,
        tests_run=tests,
        rounds=len(figures),
        user=user,
        way=way,
        label=label,
        milliseconds=_triple(_median(list(column)) for column in zip(*mine, strict=True)),
        per_fork=ratios("fork"),
        per_forked=ratios("forked"),
        drift=round(statistics.median(one.drift for one in figures), 2),
        peak_mb=round(statistics.median(peaks) / 2**20, 1) if peaks else None,
        faults=_faults(figures),
        faults_per_fork=_median(
            [
                sum(mine.faults) / sum(fork.faults)
                for mine, fork in zip(figures, found.get((row, user, "fork"), []), strict=False)
                if mine.faults and fork.faults and sum(fork.faults)
            ]
        ),
    )


def _faults(figures: list[Figures]) -> tuple[float, float] | None:
    known = [one.faults for one in figures if one.faults is not None]
    if not known:
        return None
    pytest, children = zip(*known, strict=True)
    return statistics.median(pytest), statistics.median(children)


def _median(values: list[float]) -> float | None:
    """None where it is no more than the noise: few tests can take less CPU time than two starts of pytest differ by."""
    median = statistics.median(values) if values else 0.0
    return round(median, 2) if median > 0 else None


def _triple(values: Iterator[float | None]) -> Triple:
    wall, step, cpu = [*values] or [None] * 3
    return wall, step, cpu


def text(results: Results) -> str:
    """All of it, in Markdown."""
    parts = [", ".join(f"{name} {value}" for name, value in results.about.items())]
    for (python, row, user), group in groupby(results.records, lambda one: (one.python, one.row, one.user)):
        lines = [
            "| | wall, step, CPU: ms | × bare fork | × pytest-forked | faults: pytest, child; × | drift | peak |",
            "|---|---|---|---|---|---|---|",
        ]
        for one in group:
            fewer = f", {one.tests_run} tests" if one.tests_run < one.row.tests else ""
            cells = [one.label + fewer, *map(_cell, (one.milliseconds, one.per_fork, one.per_forked))]
            cells += [_faults_cell(one), f"{one.drift:.2f}", "–" if one.peak_mb is None else f"{one.peak_mb} MB"]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"**Python {python}, {row}, {user}**\n\n" + "\n".join(lines))
    remarks = [*(f"- not measured: {one}" for one in results.not_measured), *(f"- {one}" for one in results.caveats)]
    return "\n\n".join([*parts, "\n".join(remarks)] if remarks else parts)


def _faults_cell(record: Record) -> str:
    if record.faults is None:
        return "–"
    ratio = "" if record.faults_per_fork is None else f"; {record.faults_per_fork:.2f}"
    return f"{record.faults[0]:.0f}, {record.faults[1]:.0f}{ratio}"


def _cell(figures: Triple) -> str:
    return ", ".join("–" if value is None else f"{value:.2f}" for value in figures)
