"""The run as a time line: a lane for each worker, a bar for each test, its set-up told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from pytest_isolate.plugin.report.summary import seconds

_WIDTH = 1000  # units of a lane
_THINNEST = 0.4  # of a bar, so that it can be seen


def time_line(tests: Sequence[Mapping[str, Any]], whole: float) -> Iterator[str]:
    """Lines of HTML; none if no test has begun. :param whole: seconds of the run."""
    lanes: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, test in enumerate(tests):
        if test["started"] is not None:
            lanes.setdefault(test["worker"], []).append((number, test))
    if not lanes:
        return
    yield '<h2>Time line</h2><div class="lanes">'
    for worker in sorted(lanes, key=lambda name: (len(name), name)):
        about = f"{len(lanes[worker])} tests on {escape(worker)}"
        yield f'<span>{escape(worker)}</span><svg viewBox="0 0 {_WIDTH} 10" preserveAspectRatio="none" role="img" '
        yield f'aria-label="{about}">'
        for number, test in lanes[worker]:
            yield _bar(number, test, whole or 1)
        yield "</svg>"
    ticks = "".join(f"<span>{seconds(whole * part / 4)}</span>" for part in range(5))
    yield f'<div class="axis soft">{ticks}</div></div>'
    about = "A bar is a test, its pale part the set-up. In a gap pytest did something else."
    yield f'<p class="soft">{about}</p>'


def _bar(number: int, test: Mapping[str, Any], whole: float) -> str:
    """Links that the keyboard leaves out: it has the table, whose rows they lead to."""
    at, setup = test["started"], test["phases"].get("setup", 0.0)
    rest = max(0.0, test["seconds"] - setup)
    title = escape(f"{test['id']}: {test['outcome']}, {seconds(test['seconds'])}, set-up {seconds(setup)}")
    return (
        f'<a href="#t{number}" tabindex="-1"><title>{title}</title>{_rect("setup", at, setup, whole)}'
        f"{_rect(test['outcome'], at + setup, rest, whole)}</a>"
    )


def _rect(kind: str, at: float, length: float, whole: float) -> str:
    width = max(_THINNEST, _WIDTH * length / whole)
    return f'<rect class="{kind}" x="{_WIDTH * at / whole:.2f}" width="{width:.2f}" height="10"/>'
