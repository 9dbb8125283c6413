"""The file of a baseline: one test a line, sorted, so that version control shows and merges it.

A line has the test's name, a tab, the number of runs and the lowest and highest of each figure that was measured:
``test_a.py::test_it<TAB>runs=3 memory=9984K..10240K cpu=0.012..0.015 time=0.020..0.024``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_isolate.plugin.serialize import printable

#: Figures that are compared, each with the property of reports that has it: bytes, seconds, seconds.
FIGURES = {
    "memory": "isolate_memory_peak_bytes",
    "cpu": "isolate_cpu_seconds",
    "time": "isolate_wall_seconds",
}
_HEAD = (
    "# Baseline of pytest-isolate-ns, format 1. A test's line has the lowest and highest of each figure in its runs."
)
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_FIELD = re.compile(rf"(memory|cpu|time)=({_NUMBER})K?\.\.({_NUMBER})K?", re.ASCII)
_RUNS = re.compile(r"runs=([0-9]{1,9})", re.ASCII)
_BREAKS = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Spread:
    """Lowest and highest of a figure."""

    low: float
    high: float

    def joined(self, other: Spread) -> Spread:
        """That of the runs of both."""
        return Spread(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True, slots=True)
class Measured:
    """What some runs of one test used."""

    runs: int
    figures: Mapping[str, Spread]  #: of :data:`FIGURES`, those that are known

    def joined(self, other: Measured) -> Measured:
        """What the runs of both used."""
        names = [name for name in FIGURES if name in self.figures or name in other.figures]
        return Measured(self.runs + other.runs, {name: _join(self, other, name) for name in names})


def measured(properties: Mapping[str, object]) -> Measured | None:
    """One run, from a report's ``user_properties``, rounded as the file has it. None: no figure is known."""
    found = {}
    for name, key in FIGURES.items():
        if isinstance(value := properties.get(key), (int, float)):
            rounded = float(math.ceil(value / 1024) * 1024) if name == "memory" else round(float(value), 3)
            found[name] = Spread(rounded, rounded)
    return Measured(1, found) if found else None


def name_of(nodeid: str) -> str:
    """A test's name, as the file has it: on one line."""
    return printable(nodeid).translate(_BREAKS)


def parse(text: str) -> dict[str, Measured]:
    """What each test used, by its name. Two lines of one test, as a merge leaves them, are joined.

    :raises ValueError: with the first line that is none of a baseline.
    """
    found: dict[str, Measured] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, tab, rest = line.rpartition("\t")
        runs, *fields = rest.split() or [""]
        counted, spreads = _RUNS.fullmatch(runs), [_FIELD.fullmatch(field) for field in fields]
        if not tab or counted is None or not all(spreads):
            raise ValueError(
                f"line {number} is none of a baseline. After a merge keep the lines of both sides, without its marks; "
                "or delete the file, and store it anew by --isolate-baseline-update."
            )
        new = Measured(int(counted[1]), {field[1]: _spread(field) for field in spreads if field is not None})
        found[name] = found[name].joined(new) if name in found else new
    return found


def render(tests: Mapping[str, Measured]) -> str:
    """The file's text."""
    return "".join(f"{line}\n" for line in (_HEAD, *(_line(name, tests[name]) for name in sorted(tests))))


def file_of(name: str) -> str:
    """The file that a test is in, from pytest's root directory."""
    return name.partition("::")[0]


def _join(one: Measured, other: Measured, name: str) -> Spread:
    if name not in one.figures:
        return other.figures[name]
    return one.figures[name].joined(other.figures[name]) if name in other.figures else one.figures[name]


def _spread(field: re.Match[str]) -> Spread:
    unit = 1024 if field[1] == "memory" else 1
    return Spread(float(field[2]) * unit, float(field[3]) * unit)


def _line(name: str, test: Measured) -> str:
    fields = [f"runs={test.runs}"]
    for figure, spread in test.figures.items():
        if figure == "memory":
            fields.append(f"memory={spread.low / 1024:.0f}K..{spread.high / 1024:.0f}K")
        else:
            fields.append(f"{figure}={spread.low:.3f}..{spread.high:.3f}")
    return f"{name}\t{' '.join(fields)}"
