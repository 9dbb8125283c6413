"""The table of cases and places, from what the runs have written."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.cases.catalogue import LAYOUTS, Case
from tests.matrix.places import Place

_FILE = "tests/cases/test_cases.py"
Kind = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one test."""

    kind: Kind
    reason: str = ""


@dataclass(slots=True)
class Cell:
    """One case in one place."""

    passed: int = 0
    skipped: list[str] = field(default_factory=list)  #: the kernel's reasons
    failed: list[str] = field(default_factory=list)  #: what failed, and why

    @property
    def is_green(self) -> bool:
        """Whether something was shown, or a reason given, and nothing failed."""
        return not self.failed and bool(self.passed or self.skipped)


def read(results: Path) -> dict[str, Result]:
    """By ``FILE::NAME[PARAMETERS]``, from a JUnit file of pytest."""
    found = {}
    for case in ET.parse(results).iter("testcase"):
        path = (case.get("classname") or "").replace(".", "/") + ".py"
        found[f"{path}::{case.get('name')}"] = _result(case)
    return found


def _result(case: ET.Element) -> Result:
    for child in case:
        if child.tag in {"failure", "error"}:
            return Result("failed", (child.get("message") or "").partition("\n")[0])
        if child.tag == "skipped":
            return Result("skipped", (child.get("message") or "").partition("\n")[0])
    return Result("passed")


def cell(case: Case, results: Mapping[str, Result]) -> Cell:
    """What of ``results`` is about ``case``."""
    own = [f"{_FILE}::test_case[{layout}-{case.name}]" for layout in LAYOUTS] if case.inside else []
    wanted: list[Callable[[str], bool]] = [name.__eq__ for name in own]
    wanted += [re.compile(rf"tests/{re.escape(test)}(\Z|\[|::)").match for test in case.tests]  # type: ignore[misc]
    found = Cell()
    for matches in wanted:
        shown = [(name, result) for name, result in results.items() if matches(name)]
        if not shown:
            found.failed.append("a test that was not run")
        for name, result in shown:
            if result.kind == "passed":
                found.passed += 1
            else:
                (found.failed if result.kind == "failed" else found.skipped).append(_words(name, result))
    return found


def _words(name: str, result: Result) -> str:
    return result.reason if result.kind == "skipped" else f"{name.rpartition('::')[2]}: {result.reason}"


def markdown(cases: Sequence[Case], places: Sequence[Place], cells: Mapping[tuple[str, str], Cell]) -> str:
    """The table, with its reasons as notes below."""
    notes: dict[str, int] = {}
    head = ["case", "root is", *(f"{place.host}, {place.user}" for place in places)]
    lines = [_row(head), _row(["---"] * len(head))]
    group = ""
    for case in cases:
        if case.group != group:
            group = case.group
            lines.append(_row([f"**{group}**", *[""] * (len(head) - 1)]))
        shown = [_text(cells[case.name, place.name], notes) for place in places]
        lines.append(_row([f"`{case.name}`", "any" if case.inside else "", *shown]))
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in notes.items())]) + "\n"


def _row(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"


def _text(one: Cell, notes: dict[str, int]) -> str:
    reasons = dict.fromkeys(one.failed or one.skipped)
    numbers = " ".join(f"[{notes.setdefault(reason, len(notes) + 1)}]" for reason in reasons)
    if one.failed or not one.is_green:
        return f"**failed** {numbers}".strip()
    return f"{'passed' if one.passed else 'not there'} {numbers}".strip()
