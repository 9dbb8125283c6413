"""pytest's sub-tests: how many failed, which makes the test itself fail where its report is logged.

Private: ``_pytest.subtests``, where 9.0 counts by ``nodeid``, 9.2 by ``id``; 8.0 has no sub-tests. Those of unittest
are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
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
