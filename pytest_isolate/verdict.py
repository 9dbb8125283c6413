"""What came out of a sandbox, and the reports it makes: the test's own, or of a test that died or broke a limit."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from warnings import WarningMessage

import pluggy
import pytest

from pytest_isolate import frames, neighbours, plugins, reports
from pytest_isolate.hints import hints

if TYPE_CHECKING:
    from pytest_isolate.measuring import Measured
    from pytest_isolate.outcome import Outcome
    from pytest_isolate.reports import Phase

_MACHINERY = [os.path.dirname(inspect.getfile(thing)) for thing in (pytest.Item, pluggy.PluginManager, reports)]


@dataclass(kw_only=True)
class Received:
    """What came out of a sandbox, in order."""

    reports: list[pytest.TestReport] = field(default_factory=list)
    #: those of attempts before the last one, if a plugin has tried the test again
    earlier: list[list[pytest.TestReport]] = field(default_factory=list)
    warnings: list[WarningMessage] = field(default_factory=list)
    stops: list[tuple[str, str | bool]] = field(default_factory=list)
    interrupt: BaseException | None = None
    broken: str = ""  #: what a plugin's hook raised, or which messages could not be read

    def last(self, when: Phase) -> pytest.TestReport | None:
        """The report of a phase; sub-tests report ``call`` too, before the test itself does."""
        found = [report for report in self.reports if report.when == when and not hasattr(report, "context")]
        return found[-1] if found else None

    def failed(self) -> bool:
        """Whether a phase of the last attempt failed, by no expected failure."""
        return any(report.failed for report in self.reports)

    def add_log(self, text: str) -> None:
        """Add what was logged outside meanwhile, to the report of its phase and of those that follow, as in pytest."""
        phase = "setup" if self.last("call") is None else "call"
        for report in self.reports:
            if report.when in (phase, "teardown"):
                reports.add_section(report, f"Captured log {phase}", text)

    def to_be_rerun(self) -> None:
        """Make the last attempt one of the earlier ones, as pytest-rerunfailures calls what failed in it."""
        for report in self.reports:
            if report.failed:
                report.outcome = "rerun"  # type: ignore[assignment]
        self.earlier.append(self.reports)
        self.reports = []


def received(item: pytest.Item, outcome: Outcome, measured: Measured, *, controlled: bool) -> Received:
    """The messages of a run, taken apart.

    :param measured: gets what the test covered.
    :param controlled: by xdist; see :func:`pytest_isolate.reports.unpack_warning`.
    """
    came = Received()
    for message in outcome.messages:
        try:
            _take(item, came, measured, message, controlled=controlled)
        except Exception as error:  # noqa: BLE001 - whatever a test may have forged
            came.broken += f"a message out of the sandbox cannot be read ({error!r}): {str(message)[:500]}\n"
    extra = reports.properties(outcome)
    for report in itertools.chain(*came.earlier, came.reports):
        report.user_properties += extra
    return came


def conclude(
    item: pytest.Item, came: Received, outcome: Outcome, *, unread: dict[str, str], threads: Mapping[str, str | None]
) -> None:
    """Complete the reports by how the run ended.

    :param unread: by stream, what was captured and is in no report yet.
    :param threads: see :meth:`pytest_isolate.placement.Placement.threads`.
    """
    if outcome.interrupted and came.interrupt is None:
        came.interrupt = _interrupt(item, (), frames.places_of_dump(outcome.stacks))
    failure = outcome.failure()
    if came.broken and failure is None:
        failure = "the test was run, but not all of its result came out; see below"
    if failure is not None and came.interrupt is None:
        _failed(item, came, outcome, failure, unread)
    elif (teardown := came.last("teardown")) is not None:
        for stream, text in unread.items():  # of a process that was still writing
            reports.add_section(teardown, f"Captured {stream} teardown", text)
    _add_details(item, came, outcome, threads)


def _take(item: pytest.Item, came: Received, measured: Measured, message: Any, *, controlled: bool) -> None:
    kind, data = message
    match kind:
        case "report":
            report = reports.unpack(item, data, more_outcomes=neighbours.outcomes(item.config))
            if came.reports:
                reports.share(report, came.reports[-1])
            came.reports.append(report)
        case "again":
            came.earlier.append(came.reports)
            came.reports = []
        case "warning":
            came.warnings.append(reports.unpack_warning(data, controlled=controlled))
        case "coverage":
            measured.add(data)
        case "exit":
            came.interrupt = pytest.exit.Exception(str(data[0]), None if data[1] is None else int(data[1]))
        case "interrupt":
            arguments, places = data
            came.interrupt = _interrupt(item, arguments, places)
        case "shouldstop" | "shouldfail":
            came.stops.append((kind, data if isinstance(data, bool) else str(data)))
        case "broken":
            came.broken += str(data)
        case _:
            _record(item, kind, data)


def _interrupt(item: pytest.Item, arguments: Iterable[object], places: Iterable[frames.Place]) -> KeyboardInterrupt:
    """Ctrl-C, as if it had come in the test: pytest shows the place where the traceback ends."""
    way = frames.traceback_of((str(path), int(line), str(name)) for path, line, name in places)
    return KeyboardInterrupt(*map(str, arguments or [f"in {item.nodeid}"])).with_traceback(way)


def _record(item: pytest.Item, kind: str, data: Any) -> None:
    """Give what the session keeps, beside reports, to whom it belongs."""
    match kind:
        case "failed_subtests":
            _count_failed_subtests(item, int(data))
        case "suite_property" | "xml_attribute":
            _record_in_junit(item, kind, *data)
        case _:
            if not neighbours.add(item, kind, data):
                msg = f"unknown kind {kind!r}"
                raise ValueError(msg)


def _failed(item: pytest.Item, came: Received, outcome: Outcome, failure: str, unread: dict[str, str]) -> None:
    """Give a run that did not come to its own end, or broke a limit, the reports of a failed test."""
    setup, call, teardown = (came.last(when) for when in ("setup", "call", "teardown"))
    died_in: Phase = "setup" if setup is None else "call" if setup.passed and call is None else "teardown"
    told = not any(plugins.protocols(item))  # another plugin's protocol may keep all reports back until the end
    text = f"{failure} (in {reports.PHASE_NAMES[died_in]})" if told and not outcome.complete else failure
    if setup is None:
        setup = reports.passed(item, "setup")
        came.reports.insert(0, setup)
    blamed: Phase = "call" if setup.passed else "teardown"  # a test has no call after a failed set-up
    old = call if blamed == "call" else teardown
    new = reports.failed(item, blamed, text)
    new.user_properties = [*setup.user_properties]
    before = old or call or setup
    new.sections = [*before.sections]
    new.duration, new.start, new.stop = (old.duration, old.start, old.stop) if old else _rest_of(setup, outcome)
    if old is not None and old.longrepr is not None:
        reports.add_section(new, "The test itself", old.longreprtext)
    for stream, captured in unread.items():
        reports.add_section(new, f"Captured {stream} {died_in}", captured)
    reports.add_section(new, "Error outside the test", came.broken)
    stacks = outcome.stacks if item.config.option.fulltrace else frames.shortened(outcome.stacks, _MACHINERY)
    reports.add_section(new, "Stacks (faulthandler)", stacks)
    reports.add_section(new, "Processes alive at the time-out", "\n".join(outcome.processes))
    if old is None:
        came.reports.append(new)
    else:
        came.reports[came.reports.index(old)] = new
    if came.last("teardown") is None:
        came.reports.append(reports.passed(item, "teardown"))
        came.reports[-1].user_properties = [*setup.user_properties]


def _rest_of(setup: pytest.TestReport, outcome: Outcome) -> tuple[float, float, float]:
    """Duration, start and stop of a phase that was cut off, as far as they are known."""
    duration = max(0.0, outcome.usage.wall_seconds - setup.duration)
    return duration, setup.stop, setup.stop + duration


def _add_details(item: pytest.Item, came: Received, outcome: Outcome, threads: Mapping[str, str | None]) -> None:
    call = came.last("call") or came.last("setup")
    if call is None:
        return
    if outcome.usage.changes:
        reports.add_section(call, "Files changed in the sandbox", reports.changes_text(outcome.usage.changes))
    limit = outcome.spec.limits.pids
    if outcome.pids_denied and limit is not None:
        refused = "1 fork was" if outcome.pids_denied == 1 else f"{outcome.pids_denied} forks were"
        reports.add_section(call, "Processes refused", f"hit pids={limit}: {refused} refused")
    for report in came.reports:
        if report.failed:
            told = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
            causes = hints(outcome.spec, told, threads, getattr(item, "fixturenames", ()))
            reports.add_section(report, "The sandbox as a possible cause", "\n".join(causes))


def joined(inside_report: pytest.TestReport, outside: pytest.TestReport) -> pytest.TestReport:
    """One tear-down report of the part inside and the part outside; a failure of either fails it."""
    # What the part outside has of earlier phases went into the child at the fork, and came back.
    own = [(name, text) for name, text in outside.sections if name.endswith(" teardown")]
    sections = reports.merged([*inside_report.sections, *own])
    if inside_report.passed and not outside.passed:
        outside.user_properties = inside_report.user_properties
        whole, other = outside, inside_report
    else:
        whole, other = inside_report, outside
    whole.sections = sections
    if not other.passed:
        reports.add_section(whole, "Tear-down of wider-scoped fixtures", other.longreprtext)
    whole.duration = inside_report.duration + outside.duration
    whole.stop = outside.stop
    return whole


def _record_in_junit(item: pytest.Item, kind: str, name: str, value: object) -> None:
    """What :func:`pytest_isolate.inside.prepared` was told."""
    plugin = item.config.pluginmanager.getplugin("junitxml")
    xml: Any = item.config.stash[plugin.xml_key]
    if kind == "suite_property":
        xml.add_global_property(name, value)
    else:
        xml.node_reporter(item.nodeid).add_attribute(name, value)


def _count_failed_subtests(item: pytest.Item, number: int) -> None:
    """Make the test's own report say how many of its sub-tests failed; see :func:`pytest_isolate.inside.prepared`."""
    key = item.config.pluginmanager.getplugin("subtests").failed_subtests_key
    for name in {item.nodeid, getattr(item, "id", item.nodeid)}:
        item.config.stash[key][name] += number
