"""Sub-tests: how many failed, which makes the test itself fail where its report is logged; and what is shown of them.

Private: ``_pytest.subtests``, where 9.0 counts by ``nodeid``, 9.2 by ``id``; 8.0 has no sub-tests. Those of unittest
are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.messages import Send


class Subtests(Integration):
    """The counts are in pytest's stash, by test."""

    kinds = (messages.FAILED_SUBTESTS,)

    def after(self) -> Callable[[Send], None] | None:
        """Nothing where pytest has no sub-tests."""
        key = getattr(self.config.pluginmanager.getplugin("subtests"), "failed_subtests_key", None)
        if key is None:
            return None
        failed = self.config.stash[key]
        return partial(_send_count, failed, sum(failed.values()))

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Make the test's own report say how many of its sub-tests failed."""
        number = int(data)
        key = self.config.pluginmanager.getplugin("subtests").failed_subtests_key
        for name in {item.nodeid, getattr(item, "id", item.nodeid)}:
            self.config.stash[key][name] += number


def _send_count(failed: dict[str, int], before: int, send: Send) -> None:
    if more := sum(failed.values()) - before:
        send((messages.FAILED_SUBTESTS, more))


def shown_as_plainly(item: pytest.Item, report: pytest.TestReport) -> AbstractContextManager[None]:
    """Round the logging of a report: hides what the terminal says of a sub-test of unittest, with ``--capture=fd``.

    A plain run logs it in the middle of the test, where all is captured, and so says nothing; it does of those of the
    ``subtests`` fixture (issue 141 of pytest-subtests). A test may have thousands.
    """
    is_hidden = hasattr(report, "context") and item.config.getoption("capture") == "fd" and _is_of_unittest(item)
    return _captured(item.config) if is_hidden else nullcontext()


def _is_of_unittest(item: pytest.Item) -> bool:
    from unittest import TestCase  # noqa: PLC0415 - pytest loads it late as well

    return isinstance(item, pytest.Function) and item.cls is not None and issubclass(item.cls, TestCase)


@contextmanager
def _captured(config: pytest.Config) -> Iterator[None]:
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.resume_global_capture()
    try:
        yield
    finally:
        capture.suspend_global_capture(in_=False)
        capture.read_global_capture()
