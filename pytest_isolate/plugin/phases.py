"""The three phases of a test, and reports of phases that are run in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal

import pytest

from pytest_isolate.plugin import hook_callers

Phase = Literal["setup", "call", "teardown"]
#: How a phase is called in sentences.
PHASE_NAMES: dict[Phase, str] = {"setup": "set-up", "call": "the call", "teardown": "tear-down"}


def run_phase(when: Phase, body: Callable[..., object], /, **arguments: object) -> pytest.CallInfo[object]:
    """Run a phase whose body is ``body``; ``pytest.exit`` and Ctrl-C pass through."""
    reraise = (pytest.exit.Exception, KeyboardInterrupt)
    # A partial has no frame, which would be in the traceback of a fixture that fails in a conftest.py file.
    return pytest.CallInfo.from_call(partial(body, **arguments), when=when, reraise=reraise)


def report_phase(
    item: pytest.Item, when: Phase, body: Callable[..., object], /, **arguments: object
) -> pytest.TestReport:
    """Run a phase whose body is ``body``, and make its report."""
    return make_report(item, run_phase(when, body, **arguments))


def failed_call(error: BaseException, traceback: TracebackType | None) -> pytest.CallInfo[object]:
    """A call that ``error`` has ended from outside of the test. :param traceback: what is to be shown of its own."""

    def fail() -> None:
        __tracebackhide__ = True
        raise error.with_traceback(traceback)

    return run_phase("call", fail)


def make_report(item: pytest.Item, call: pytest.CallInfo[Any]) -> pytest.TestReport:
    """Have pytest make the report of a phase that was run out here; xfail marks apply.

    pytest looks at these marks in the set-up, which may have been done inside alone. Private: ``xfailed_key`` and
    ``evaluate_xfail_marks`` of its ``skipping`` plugin; 8.0 to 9.2.
    """
    plugin = item.config.pluginmanager.getplugin("skipping")
    if "xfail" in item.keywords and plugin is not None and plugin.xfailed_key not in item.stash:
        item.stash[plugin.xfailed_key] = plugin.evaluate_xfail_marks(item)
    report: Any = hook_callers.own_hook(item.config, "pytest_runtest_makereport")(item=item, call=call)
    assert isinstance(report, pytest.TestReport)
    return report
