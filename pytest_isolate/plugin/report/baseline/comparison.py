"""One run against a baseline: which tests grew beyond noise, which are new, which are gone."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_isolate.plugin.report.baseline.stored import FIGURES, Measured, Spread, file_of
from pytest_isolate.plugin.report.summary import ROWS, seconds
from pytest_isolate.spec.sizes import size_text

#: By figure: by what factor and by how much, in bytes or seconds, it may be above the highest that is stored.
Noise = Mapping[str, tuple[float, float]]
_NAMED = 3  # new and gone tests
#: What a busy machine makes longer; of that many tests, as fewer may all have changed.
_OF_THE_MACHINE = ("cpu", "time")
_MANY = 20
_WORTH_A_WORD = 1.5  # times as long


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure of a test that grew."""

    test: str
    figure: str
    now: float
    before: Spread
    runs: int

    def __str__(self) -> str:
        show = _size if self.figure == "memory" else seconds
        low, high = show(self.before.low), show(self.before.high)
        was = high if low == high else f"{low} to {high}"
        more = f", {(self.now / self.before.high - 1) * 100:+.0f} %" if self.before.high else ""
        times = "1 run" if self.runs == 1 else f"{self.runs} runs"
        return f"{self.test}: {self.figure} {show(self.now)}, was {was} in {times}{more}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing."""

    grown: tuple[Growth, ...]  #: the most grown first, by factor
    new: tuple[str, ...]
    gone: tuple[str, ...]
    compared: int  #: tests
    figures: tuple[str, ...]  #: of these, whichever both sides have
    slower: Mapping[str, float]  #: by figure, how many times as long the run took as a whole

    def lines(self) -> Iterator[str]:
        """For the summary; none if there is nothing to tell."""
        for figure, times in self.slower.items():
            if times >= _WORTH_A_WORD:
                yield f"half of the tests took {times:.1f} times as much {figure} or more: the machine seems busier"
        yield from map(str, self.grown[:ROWS])
        if len(self.grown) > ROWS:
            yield f"... and {len(self.grown) - ROWS} more"
        for what, names in (("new", self.new), ("gone", self.gone)):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                yield f"{what}: {', '.join(names[:_NAMED])}{more}"


def compare(
    stored: Mapping[str, Measured],
    run: Mapping[str, Measured],
    noise: Noise,
    *,
    collected: Collection[str] = (),
    files: Collection[str] = (),
) -> Comparison:
    """Compare a run with what is stored.

    :param collected: names of all tests of the run.
    :param files: those of which all tests were collected, and those that are no more: what else is stored of them is
        gone. Of others this run says nothing.
    """
    both = [(test, stored[test], now) for test, now in run.items() if test in stored]
    slower = {figure: _slowdown(figure, [(old, now) for _, old, now in both]) for figure in _OF_THE_MACHINE}
    grown = [growth for test, before, now in both for growth in _grown(test, before, now, noise, slower)]
    return Comparison(
        grown=tuple(sorted(grown, key=_factor, reverse=True)),
        new=tuple(sorted(run.keys() - stored.keys())),
        gone=tuple(sorted(test for test in stored.keys() - collected if file_of(test) in files)),
        compared=len(both),
        slower=slower,
        figures=tuple(name for name in FIGURES if any(_have(name, old, now) for _, old, now in both)),
    )


def merge(stored: Mapping[str, Measured], run: Mapping[str, Measured], gone: Collection[str]) -> dict[str, Measured]:
    """What is stored after the run: each test's spread in all runs, without tests that are gone."""
    merged = {test: stored[test] for test in stored.keys() - gone}
    for test, now in run.items():
        merged[test] = merged[test].joined(now) if test in merged else now
    return merged


def _slowdown(figure: str, pairs: Iterable[tuple[Measured, Measured]]) -> float:
    """How many times as long half of the tests took, at least 1: what has made so many slower is not in the tests."""
    known = [(old.figures[figure].high, now.figures[figure].high) for old, now in pairs if _have(figure, old, now)]
    ratios = [now / before for before, now in known if before]
    return max(1.0, statistics.median(ratios)) if len(ratios) >= _MANY else 1.0


def _have(figure: str, *both: Measured) -> bool:
    return all(figure in each.figures for each in both)


def _grown(test: str, before: Measured, now: Measured, noise: Noise, slower: Mapping[str, float]) -> Iterator[Growth]:
    for figure in FIGURES:
        if figure in noise and _have(figure, before, now):
            value, spread = now.figures[figure].high, before.figures[figure]
            if value > _limit(spread, *noise[figure]) * slower.get(figure, 1.0):
                yield Growth(test, figure, value, spread, before.runs)


def _factor(growth: Growth) -> float:
    return growth.now / growth.before.high if growth.before.high else float("inf")


def _limit(spread: Spread, factor: float, floor: float) -> float:
    """What is no growth yet: above the highest by factor and floor, and by as much as runs differ already."""
    return max(spread.high * factor, spread.high + floor, spread.high + (spread.high - spread.low))


def _size(value: float) -> str:
    return size_text(int(value), 1)
