"""What the doctor found, as text for people and as data for programs."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_isolate.session.doctor.findings import Finding, Reason
from pytest_isolate.session.doctor.measure import Cost
from pytest_isolate.spec.sizes import size_text

#: Of :func:`as_data`; a new one where a field goes or means something else.
VERSION = 1
_COLOURS = {"works": "32", "weaker": "33", "lacking": "31"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that came of one look at the host."""

    machine: str  #: versions, and who asks
    in_force: str  #: as in pytest's header
    findings: tuple[Finding, ...]
    cost: Cost | None  #: None: no test could be run, or nobody asked
    strict: tuple[str, ...] = ()  #: capabilities that must work
    root: bool = False

    @property
    def missed(self) -> tuple[str, ...]:
        """What makes the exit status 1: of ``strict`` what does not work, else the sandbox if it does not."""
        wanted = self.strict or ("sandbox",)
        return tuple(each.key for each in self.findings if each.key in wanted and each.state != "works")


def as_data(found: Examination) -> dict[str, object]:
    """For ``--json``; docs/hosts.md says what the fields mean."""
    cost = found.cost
    return {
        "version": VERSION,
        "ok": not found.missed,
        "missed": [*found.missed],
        "machine": found.machine,
        "in_force": found.in_force,
        "capabilities": {
            each.key: {
                "state": each.state,
                "about": each.about,
                "reasons": [{"why": reason.why, "remedy": reason.remedy} for reason in each.reasons],
                "stand_in": each.stand_in or None,
                "note": each.note or None,
            }
            for each in found.findings
        },
        "cost": None
        if cost is None
        else {
            "fork_seconds": round(cost.fork_seconds, 6),
            "test_seconds": round(cost.test_seconds, 6),
            "process_bytes": cost.process_bytes,
        },
    }


def as_text(found: Examination, *, width: int | None = None, colour: bool = False) -> str:
    """A table, why each lack is one and what mends it, and what a test costs.

    :param width: columns of the terminal; None: lines are not broken, so that commands can be copied out of a file.
    """
    notes = _number(found.findings)
    lines = [found.machine, f"isolate: {found.in_force}", "", *_table(found.findings, notes, colour=colour)]
    for number in dict.fromkeys(notes.values()):
        reasons = [reason for reason in notes if notes[reason] == number]
        lines += ["", *_explain(reasons, number, found.findings, width)]
    lines += ["", *(part for text in _conclude(found, notes) for part in _wrap(text, width, indent=""))]
    return "\n".join(lines) + "\n"


def _number(findings: Sequence[Finding]) -> dict[Reason, int]:
    """Reasons, which several capabilities may share, in order; one number, from 1, for all that one remedy mends."""
    numbers: dict[str, int] = {}
    reasons = dict.fromkeys(reason for each in findings for reason in each.reasons)
    return {reason: numbers.setdefault(reason.remedy or reason.why, len(numbers) + 1) for reason in reasons}


def _table(findings: Sequence[Finding], notes: dict[Reason, int], *, colour: bool) -> Iterator[str]:
    names = max(len(each.key) for each in findings)
    for each in findings:
        state = each.state.ljust(max(map(len, _COLOURS)))
        if colour:
            state = f"\x1b[{_COLOURS[each.state]}m{state}\x1b[0m"
        marks = "".join(f" [{number}]" for number in dict.fromkeys(notes[reason] for reason in each.reasons))
        note = f" ({each.note})" if each.note else ""
        yield f"{each.key.ljust(names)}  {state}  {each.about}{marks}{note}"


def _explain(reasons: Sequence[Reason], number: int, findings: Sequence[Finding], width: int | None) -> Iterator[str]:
    for reason in reasons:
        concerned = ", ".join(each.key for each in findings if reason in each.reasons)
        head = f"[{number}]" if reason is reasons[0] else "   "
        yield from _wrap(f"{head} {concerned}: {reason.why}", width)
    if reasons[0].remedy:
        yield from _wrap(f"    {reasons[0].remedy}", width)
    for each in findings:
        if each.stand_in and not set(reasons).isdisjoint(each.reasons):
            stands_in = f"    {each.key} with --isolate-unsupported=degrade: {each.stand_in}."
            yield from _wrap(stands_in, width)


def _conclude(found: Examination, notes: dict[Reason, int]) -> Iterator[str]:
    if (cost := found.cost) is not None:
        yield (
            f"An empty isolated test takes {cost.test_seconds * 1000:.1f} ms here, a bare fork "
            f"{cost.fork_seconds * 1000:.1f} ms (medians; both grow with the process, here {_size(cost)})."
        )
    if found.missed:
        what = "Required and not working" if found.strict else "No test can be isolated as it asks to be"
        yield f"{what}: {', '.join(found.missed)}."
    elif notes:
        yield "Tests can be isolated here; one that asks for what does not work is an error (--isolate-unsupported)."
    else:
        yield "Tests can be isolated here, with all limits."
    if notes and not found.root:
        yield f"As root more may work; to see: sudo {shlex.quote(sys.executable)} -m pytest_isolate doctor"


def _size(cost: Cost) -> str:
    return size_text(cost.process_bytes, 0)


def _wrap(text: str, width: int | None, indent: str = "    ") -> list[str]:
    if width is None:
        return [text]
    # No hyphen is a place to break a line at: options have some.
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
