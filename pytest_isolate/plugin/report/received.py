"""What the child sent, read message by message."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from warnings import WarningMessage

import pytest

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.report import reports, tracebacks
from pytest_isolate.spec.lists import is_passable

if TYPE_CHECKING:
    from pytest_isolate.plugin.integrations.registry import Integrations
    from pytest_isolate.plugin.phases import Phase
    from pytest_isolate.sandbox.outcome import Outcome


class Received:
    """What came out of a sandbox, in order."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []
        #: those of attempts before the last one, if a plugin has tried the test again
        self.earlier: list[list[pytest.TestReport]] = []
        self.warnings: list[WarningMessage] = []
        self.stops: list[tuple[str, str | bool]] = []
        self.interrupt: BaseException | None = None
        self.broken = ""  #: what a plugin's hook raised, or which messages could not be read

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

    def rename_to_rerun(self) -> None:
        """Make the last attempt one of the earlier ones, with pytest-rerunfailures' outcome for what failed in it."""
        for report in self.reports:
            if report.failed:
                report.outcome = "rerun"  # type: ignore[assignment]
        self.earlier.append(self.reports)
        self.reports = []


def receive(item: pytest.Item, outcome: Outcome, integrations: Integrations, *, controlled: bool) -> Received:
    """Read the messages of a run.

    :param integrations: take what is for other plugins.
    :param controlled: by xdist; see :func:`pytest_isolate.plugin.serialize.unpack_warning`.
    """
    received = Received()
    for message in outcome.messages:
        try:
            _take(item, received, integrations, message, controlled=controlled)
        except Exception as error:  # noqa: BLE001 - whatever a test may have forged
            received.broken += (
                f"a message out of the sandbox cannot be read ({error!r}): {serialize.text_of(message)[:500]}\n"
            )
    extra = reports.properties(outcome)
    for report in itertools.chain(*received.earlier, received.reports):
        report.user_properties += extra
    return received


def _take(item: pytest.Item, received: Received, integrations: Integrations, message: Any, *, controlled: bool) -> None:
    kind, data = message
    match kind:
        case messages.REPORT:
            report = serialize.unpack(item, data, more_outcomes=integrations.outcomes())
            if received.reports:
                serialize.share(report, received.reports[-1])
            received.reports.append(report)
        case messages.AGAIN:
            received.earlier.append(received.reports)
            received.reports = []
        case messages.WARNING:
            received.warnings.append(serialize.unpack_warning(data, controlled=controlled))
        case messages.EXIT:
            reason, code = serialize.text_of(data[0]), data[1]
            received.interrupt = pytest.exit.Exception(reason, None if code is None else int(code))
        case messages.INTERRUPT:
            arguments, places = data
            received.interrupt = make_interrupt(item, arguments, places)
        case messages.SHOULD_STOP | messages.SHOULD_FAIL:
            received.stops.append((kind, data if isinstance(data, bool) else serialize.text_of(data)))
        case messages.BROKEN:
            received.broken += serialize.text_of(data)
        case _:
            integrations.receive(item, kind, data)


def make_interrupt(
    item: pytest.Item, arguments: Iterable[object], places: Iterable[tracebacks.Place]
) -> KeyboardInterrupt:
    """Ctrl-C, as if it had come in the test: pytest shows the place where the traceback ends."""
    way = tracebacks.make_traceback((_file(str(path)), int(line), str(name)) for path, line, name in places)
    return KeyboardInterrupt(*map(serialize.text_of, arguments or [f"in {item.nodeid}"])).with_traceback(way)


def _file(path: str) -> str:
    """A path that can be looked for, to show its lines; what is raised then would end the session."""
    if not is_passable(path):
        raise ValueError(f"{path!r} is no file's name")
    return path
