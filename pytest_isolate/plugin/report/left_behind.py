"""What a test left behind, in its reports: a section, and with ``leaks="fail"`` an error of its tear-down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_isolate.plugin import phases
from pytest_isolate.plugin.report import reports
from pytest_isolate.plugin.serialize import printable

if TYPE_CHECKING:
    from pytest_isolate.plugin.report.received import Received
    from pytest_isolate.sandbox.outcome import Leak, Outcome

_NAMED = 3  # leaks in the message; all are in the section
_SHOWN = 50


def tell(item: pytest.Item, result: Received, outcome: Outcome) -> None:
    """Add ``outcome``'s leaks to the report that says why the test failed, if it did, else to that of the tear-down.

    A test that has failed already fails no second time.
    """
    teardown = result.last("teardown")
    if teardown is None or not outcome.leaks:
        return
    told = next((report for report in result.reports if report.failed), teardown)
    if outcome.spec.leaks == "fail" and not told.failed:
        result.reports[result.reports.index(teardown)] = told = _make_failed(item, teardown, outcome.leaks)
        if len(outcome.leaks) <= _NAMED:
            return  # the message has them all
    lines = [str(leak) for leak in outcome.leaks[:_SHOWN]]
    if len(outcome.leaks) > _SHOWN:
        lines.append(f"... and {len(outcome.leaks) - _SHOWN} more")
    reports.add_detail(told, "Left behind", "\n".join(lines))


def _make_failed(item: pytest.Item, teardown: pytest.TestReport, leaks: tuple[Leak, ...]) -> pytest.TestReport:
    named = ", ".join(str(leak) for leak in leaks[:_NAMED])
    more = f" and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else ""
    reason = printable(f'left behind (leaks="fail"): {named}{more}')
    failed = phases.report_phase(item, "teardown", pytest.fail, reason=reason, pytrace=False)
    failed.user_properties, failed.sections = teardown.user_properties, teardown.sections
    failed.duration, failed.start, failed.stop = teardown.duration, teardown.start, teardown.stop
    return failed
