"""The reports of a run, completed by how it ended: the test died, broke a limit, or came to its own end."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy
import pytest

import pytest_isolate
from pytest_isolate.plugin import hook_callers, phases, serialize
from pytest_isolate.plugin.report import left_behind, lost_files, reached, reports, tracebacks
from pytest_isolate.plugin.report.hints import hints
from pytest_isolate.plugin.report.received import Received, make_interrupt

if TYPE_CHECKING:
    from pytest_isolate.plugin.phases import Phase
    from pytest_isolate.sandbox.outcome import Outcome

#: Names of threads that are not in the sandbox, each with the fixture that started it; asked only after a failure.
MissingThreads = Callable[[], Mapping[str, str | None]]
#: What a failed test may miss of earlier ones, as sentences, from what its report says.
Earlier = Callable[[str], Iterable[str]]
_MACHINERY = [os.path.dirname(inspect.getfile(thing)) for thing in (pytest.Item, pluggy.PluginManager, pytest_isolate)]
_NO_PROMPT = (
    "--pdb has no prompt for this failure: the test's process has ended, and with it all that a debugger would show. "
    "--trace, or breakpoint() in the test, stops it before that; at their prompts there is no time-out."
)


def conclude(
    item: pytest.Item,
    result: Received,
    outcome: Outcome,
    *,
    unread: dict[str, str],
    threads: MissingThreads,
    earlier: Earlier,
) -> None:
    """Complete the reports by how the run ended.

    :param unread: by stream, what was captured and is in no report yet.
    :param threads: see :meth:`pytest_isolate.plugin.run.session_threads.SessionThreads.missing`.
    :param earlier: see :meth:`pytest_isolate.plugin.run.earlier_tests.EarlierTests.hints`.
    """
    if outcome.interrupted and result.interrupt is None:
        result.interrupt = make_interrupt(item, (), tracebacks.places_of_dump(outcome.stacks))
    failure = outcome.failure()
    if result.broken and failure is None:
        failure = "the test was run, but not all of its result came out; see below"
    if failure is not None and result.interrupt is None:
        _make_failed(item, result, outcome, failure, unread)
    elif (teardown := result.last("teardown")) is not None:
        for stream, text in unread.items():  # of a process that was still writing
            reports.add_section(teardown, f"Captured {stream} teardown", text)
    _add_details(item, result, outcome, threads, earlier)
    if outcome.leaks and result.interrupt is None:
        left_behind.tell(item, result, outcome)
    for lost in outcome.lost:
        _warn(item, result, f"of tmp_path is lost {serialize.printable(lost)}")


def _warn(item: pytest.Item, result: Received, text: str) -> None:
    """A warning about the test. With ``-W error`` its tear-down fails of it."""

    def warn() -> None:
        warnings.warn(text, stacklevel=1)

    report = phases.report_phase(item, "teardown", warn)
    teardown = result.last("teardown")
    if report.failed and teardown is not None:
        result.reports[result.reports.index(teardown)] = join(teardown, report)


def _make_failed(item: pytest.Item, result: Received, outcome: Outcome, failure: str, unread: dict[str, str]) -> None:
    """Give a run that did not come to its own end, or broke a limit, the reports of a failed test."""
    setup, call, teardown = (result.last(when) for when in ("setup", "call", "teardown"))
    died_in: Phase = "setup" if setup is None else "call" if setup.passed and call is None else "teardown"
    comes_late = any(
        hook_callers.other_protocols(item)
    )  # another plugin's protocol may keep all reports back until the end
    text = f"{failure} (in {phases.PHASE_NAMES[died_in]})" if not comes_late and not outcome.complete else failure
    if setup is None:
        setup = reports.make_passed(item, "setup")
        result.reports.insert(0, setup)
    blamed: Phase = "call" if setup.passed else "teardown"  # a test has no call after a failed set-up
    old = call if blamed == "call" else teardown
    new = reports.make_failed(item, blamed, text, reached.find_places(item, outcome, _stacks(item, outcome), old))
    new.user_properties = [*setup.user_properties]
    before = old or call or setup
    new.sections = [*before.sections]
    new.duration, new.start, new.stop = (old.duration, old.start, old.stop) if old else _rest_of(setup, outcome)
    _explain(new, item, result, outcome, old)
    if old is None:
        result.reports.append(new)
    else:
        result.reports[result.reports.index(old)] = new
    if teardown is None and new.when != "teardown":
        result.reports.append(reports.make_passed(item, "teardown"))
        result.reports[-1].user_properties, result.reports[-1].sections = [*new.user_properties], [*new.sections]
    _add_unread(result, died_in, unread)


def _stacks(item: pytest.Item, outcome: Outcome) -> str:
    return outcome.stacks if item.config.option.fulltrace else tracebacks.shorten(outcome.stacks, _MACHINERY)


def _explain(
    new: pytest.TestReport, item: pytest.Item, result: Received, outcome: Outcome, old: pytest.TestReport | None
) -> None:
    """Add to the failure what is known beside it."""
    if old is not None and old.longrepr is not None:
        reports.add_detail(new, "The test itself", old.longreprtext)
    reports.add_detail(new, "Error outside the test", result.broken)
    reports.add_detail(new, "Stacks (faulthandler)", _stacks(item, outcome))
    reports.add_detail(new, "Processes alive at the time-out", "\n".join(outcome.processes))
    if not outcome.complete and getattr(item.config.option, "usepdb", False):
        reports.add_detail(new, "No debugger", _NO_PROMPT)


def _add_unread(result: Received, died_in: Phase, unread: dict[str, str]) -> None:
    """Add the output of the phase in which the test died to its report and to those that follow, as in pytest.

    junitxml takes all output from the report of the tear-down.
    """
    names = [*phases.PHASE_NAMES]
    for when in names[names.index(died_in) :]:
        if (report := result.last(when)) is not None:
            for stream, text in unread.items():
                reports.add_section(report, f"Captured {stream} {died_in}", text)


def _rest_of(setup: pytest.TestReport, outcome: Outcome) -> tuple[float, float, float]:
    """Duration, start and stop of a phase that was cut off, as far as they are known."""
    duration = max(0.0, outcome.usage.wall_seconds - setup.duration)
    return duration, setup.stop, setup.stop + duration


def _add_details(
    item: pytest.Item, result: Received, outcome: Outcome, threads: MissingThreads, earlier: Earlier
) -> None:
    call = result.last("call") or result.last("setup")
    if call is None:
        return
    if outcome.usage.changes:
        reports.add_detail(call, "Files changed in the sandbox", reports.changes_text(outcome.usage))
    reports.add_detail(call, "Writable layer", outcome.kept)
    limit = outcome.spec.limits.pids
    if outcome.pids_denied and limit is not None:
        refused = "1 fork was" if outcome.pids_denied == 1 else f"{outcome.pids_denied} forks were"
        reports.add_detail(call, "Processes refused", f"hit pids={limit}: {refused} refused")
    usage = outcome.usage
    left = (usage.changes if usage.files_left is None else usage.files_left) or ()
    for report in result.reports:
        if report.failed:
            text = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
            causes = [*earlier(text), *hints(outcome.spec, text, threads(), getattr(item, "fixturenames", ()))]
            causes += lost_files.hints(report.longreprtext, left)
            reports.add_detail(report, "The sandbox as a possible cause", "\n".join(causes))


def join(inside: pytest.TestReport, outside: pytest.TestReport) -> pytest.TestReport:
    """One tear-down report of the part inside and the part outside; a failure of either fails it."""
    # What the part outside has of earlier phases went into the child at the fork, and came back.
    own = [(name, text) for name, text in outside.sections if name.endswith(" teardown")]
    sections = serialize.merge([*inside.sections, *own])
    if inside.passed and not outside.passed:
        outside.user_properties = inside.user_properties
        whole, other = outside, inside
    else:
        whole, other = inside, outside
    whole.sections = sections
    if not other.passed:
        reports.add_section(whole, "Tear-down of higher-scoped fixtures", other.longreprtext)
    whole.duration = inside.duration + outside.duration
    whole.stop = outside.stop
    return whole
