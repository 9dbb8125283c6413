"""What a run's report says, as plain data: docs/report.md is its schema, and must change with it."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.serialize import printable

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Outcome

#: Of the schema; a new one where a field goes or means something else.
VERSION = 1
#: Of the report of a tear-down: what :func:`sandbox` returned.
ATTRIBUTE = "isolate_sandbox"
_LONGEST = 20_000  # characters of one text
_MOST_CHANGES = 1000
#: Worse outcomes first: the worst of a test's phases is the test's.
OUTCOMES = ("failed", "error", "xpassed", "xfailed", "skipped", "passed")
#: Sections of reports, whose content is in :func:`sandbox` as well.
_OURS = ("Files changed in the sandbox", "Left behind")
_FIGURES = (
    *("wall_seconds", "cpu_seconds", "memory_peak_bytes", "pids_peak"),
    *("read_bytes", "write_bytes", "files_changed"),
)


def sandbox(outcome: Outcome) -> dict[str, Any]:
    """What the report says of a test's sandbox; plain data, also for execnet, which carries it."""
    spec, usage = outcome.spec, outcome.usage
    known = dict(usage.properties())
    changes = (usage.changes if usage.files_left is None else usage.files_left) or ()
    return {
        "network": spec.network,
        "image": spec.image,
        "limits": asdict(spec.limits),
        "usage": {name: known.get(f"isolate_{name}") for name in _FIGURES},
        "failure": outcome.failure(),
        "degraded": {key: printable(reason) for key, reason in outcome.degraded},
        "leaks": [printable(str(leak)) for leak in outcome.leaks],
        "changes": [f"{change.kind} {printable(change.path)}" for change in changes[:_MOST_CHANGES]],
    }


class Test:
    """One test, from its reports."""

    def __init__(self, nodeid: str) -> None:
        self._nodeid = nodeid
        self._outcomes: list[str] = []
        self._phases: dict[str, float] = {}
        self._started: float | None = None
        self._worker = "main"
        self._attempts = 1
        self._texts: list[str] = []
        self._sections: dict[str, str] = {}
        self._sandbox: dict[str, Any] | None = None

    def add(self, report: pytest.TestReport) -> None:
        """Take a report, in the order of logging; those of attempts that were followed by another too."""
        if report.when == "setup" and "setup" in self._phases:
            self._attempts += 1
            self._outcomes, self._phases, self._started = [], {}, None
        outcome = _outcome(report)
        if outcome is not None:
            self._outcomes.append(outcome)
        when = str(report.when)
        if when in ("setup", "call", "teardown"):
            self._phases[when] = self._phases.get(when, 0.0) + float(report.duration)
        if self._started is None and getattr(report, "start", None):
            self._started = float(report.start)
        node: Any = getattr(report, "node", None)  # of xdist
        self._worker = node.gateway.id if node is not None else self._worker
        if report.longrepr and outcome != "passed":
            self._texts.append(_text(report))
        self._sections |= {name: shorten(text) for name, text in report.sections if name not in _OURS}
        self._sandbox = getattr(report, ATTRIBUTE, self._sandbox)

    def as_data(self, began: float) -> dict[str, Any]:
        """By the schema. :param began: when the run did, in seconds from the epoch."""
        return {
            "id": self._nodeid,
            "outcome": next((each for each in OUTCOMES if each in self._outcomes), "passed"),
            "worker": self._worker,
            "attempts": self._attempts,
            "started": None if self._started is None else round(max(0.0, self._started - began), 6),
            "seconds": round(sum(self._phases.values()), 6),
            "phases": {when: round(seconds, 6) for when, seconds in self._phases.items()},
            "text": shorten("\n\n".join(self._texts)) or None,
            "output": self._sections,
            "sandbox": self._sandbox,
        }


def describe_run(config: pytest.Config, *, began: float, exit_status: int) -> dict[str, Any]:
    """The run as a whole."""
    return {
        "started": round(began, 3),
        "seconds": round(time.time() - began, 3),
        "exit_status": exit_status,
        "arguments": [printable(str(argument)) for argument in config.invocation_params.args],
        "folder": printable(os.fspath(config.rootpath)),
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "isolate": metadata.version("pytest-isolate-ns"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def document(run: Mapping[str, Any], tests: Iterable[Test], not_collected: list[dict[str, str]]) -> dict[str, Any]:
    """All of it."""
    found = [test.as_data(run["started"]) for test in tests]
    counts = Counter(test["outcome"] for test in found)
    return {
        "version": VERSION,
        "run": dict(run),
        "totals": {outcome: counts[outcome] for outcome in OUTCOMES},
        "not_collected": not_collected,
        "tests": found,
    }


def shorten(text: str) -> str:
    """Beginning and end of what is too long to be kept whole."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _outcome(report: pytest.TestReport) -> str | None:
    """What pytest calls it; None for what says nothing of the test, as an attempt that is followed by another."""
    expected = hasattr(report, "wasxfail")
    if report.failed:
        return "failed" if report.when not in ("setup", "teardown") else "error"
    if report.skipped:
        return "xfailed" if expected else "skipped"
    if report.when == "call" and report.passed:
        return "xpassed" if expected else "passed"
    return None


def _text(report: pytest.TestReport) -> str:
    """Why it did not pass: of a skip the reason alone."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext
