"""Plugins that keep in their ``pytest_runtest_makereport`` how tests ended: it is called once more, outside."""

from __future__ import annotations

import copy

import pytest

from pytest_isolate.plugin import hook_callers, phases


def notify(item: pytest.Item, plugins: set[object], report: pytest.TestReport) -> None:
    """Call that hook of ``plugins`` for a report that the child has made."""
    call = phases.run_phase(report.when, _end_as, report=report)
    hook_callers.call_makereport(item, plugins, call, _copy(report))


def _copy(report: pytest.TestReport) -> pytest.TestReport:
    """A copy that can be added to: the hooks have added to the report inside."""
    twin = copy.copy(report)
    for name, value in vars(report).items():
        if isinstance(value, list):
            setattr(twin, name, [*value])
    return twin


def _end_as(report: pytest.TestReport) -> None:
    """End as the phase of a report did."""
    if report.failed or hasattr(report, "wasxfail"):
        pytest.fail(report.longreprtext, pytrace=False)
    if report.skipped:
        pytest.skip(report.longreprtext)
