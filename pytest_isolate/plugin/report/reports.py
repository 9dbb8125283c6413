"""The reports that only the outside can make, and what is added to those that the child made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin import phases
from pytest_isolate.plugin.report import tracebacks
from pytest_isolate.plugin.serialize import merge, printable

if TYPE_CHECKING:
    from pytest_isolate.plugin.phases import Phase
    from pytest_isolate.plugin.report.tracebacks import Place
    from pytest_isolate.sandbox.outcome import Outcome, Usage

_SHOWN_CHANGES = 200


def add_section(report: pytest.TestReport, name: str, text: str) -> None:
    """Add ``text`` to the report unless it is empty."""
    if text:
        report.sections = merge([*report.sections, (name, printable(text))])


def add_detail(report: pytest.TestReport, name: str, text: str) -> None:
    """Add ``text`` to what the report says of a failure, unless it is empty; of a report without one, as a section.

    A section is shown at the terminal, and not in the file of ``--junitxml``, which CI shows.
    """
    longrepr: Any = report.longrepr
    if not report.failed or not text:
        add_section(report, name, text)
    elif hasattr(longrepr, "addsection"):
        longrepr.addsection(name, printable(text))
    else:  # of an item that is no Python function
        report.longrepr = f"{report.longreprtext}\n{f' {name} ':-^80}\n{printable(text)}"


def make_passed(item: pytest.Item, when: Phase) -> pytest.TestReport:
    """A report of a phase that passed, or that never came to an end of its own."""
    return phases.report_phase(item, when, lambda: None)


def make_failed(item: pytest.Item, when: Phase, message: str, places: Iterable[Place]) -> pytest.TestReport:
    """A report of a phase that failed for ``message``, at the end of ``places``; xfail marks apply."""
    call = phases.run_phase(when, pytest.fail, reason=printable(message))
    assert call.excinfo is not None
    failure = call.excinfo.value.with_traceback(tracebacks.make_traceback(places))
    call.excinfo = pytest.ExceptionInfo.from_exception(failure)
    return phases.make_report(item, call)


def make_error(item: pytest.Item, message: str) -> pytest.TestReport:
    """An *error* in set-up, located at the test: it says nothing about the test, hence is never an expected failure."""
    report = phases.report_phase(item, "setup", pytest.fail, reason=printable(message), pytrace=False)
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:  # without this --tb=line and the like would point at this file
        path, line, _ = item.reportinfo()
        crash.path, crash.lineno = os.fspath(path), (line or 0) + 1
    report.outcome = "failed"
    vars(report).pop("wasxfail", None)
    return report


def make_skipped(item: pytest.Item, reason: str) -> pytest.TestReport:
    """A skip in set-up, located at the test."""
    reason = printable(reason)
    report = phases.report_phase(item, "setup", pytest.skip, reason=reason)
    path, line, _ = item.reportinfo()
    report.longrepr = (os.fspath(path), (line or 0) + 1, f"Skipped: {reason}")
    return report


def changes_text(usage: Usage) -> str:
    """The changed files, one per line: ``D /etc``; what is written in passing is only counted."""
    changes = usage.changes or ()
    left = changes if usage.files_left is None else usage.files_left
    lines = [f"{change.kind} {change.path}" for change in left[:_SHOWN_CHANGES]]
    if len(left) > _SHOWN_CHANGES:
        lines.append(f"... and {len(left) - _SHOWN_CHANGES} more")
    if passing := len(changes) - len(left):
        lines.append(f"{'and ' if lines else ''}{passing} in tmp_path, bytecode and caches")
    return "\n".join(lines)


def properties(outcome: Outcome) -> list[tuple[str, object]]:
    """What the run adds to ``user_properties``."""
    pairs = outcome.usage.properties()
    if outcome.pids_denied:
        pairs.append(("isolate_pids_denied", outcome.pids_denied))
    if outcome.leaks:
        pairs.append(("isolate_leaks", printable("; ".join(str(leak).replace("; ", ", ") for leak in outcome.leaks))))
    if outcome.degraded:
        text = "; ".join(f"{key}: {reason.replace('; ', ', ')}" for key, reason in outcome.degraded)
        pairs.append(("isolate_degraded", printable(text)))
    return pairs
