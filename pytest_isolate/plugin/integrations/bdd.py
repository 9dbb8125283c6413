"""pytest-bdd: the steps of a scenario, which its reporters look for beside the report; before 8, in it. Seen: 9.0."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send

_REPORTING = "pytest_bdd.reporting"
_SCENARIO: pytest.StashKey[Any] = pytest.StashKey()


class Bdd(Integration):
    """Its registries are by test and by report, and weak."""

    kinds = (messages.SCENARIO,)

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send the scenario's report."""
        scenarios = getattr(sys.modules.get(_REPORTING), "scenario_reports_registry", None)
        return None if scenarios is None else functools.partial(_send_scenario, scenarios, item)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Keep it until the reports are there."""
        item.stash[_SCENARIO] = data

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Put the scenario beside the report."""
        if _SCENARIO in item.stash and report.when != "setup":
            bdd = sys.modules[_REPORTING]
            bdd.test_report_context_registry[report] = bdd.ReportContext(scenario=item.stash[_SCENARIO], name=item.name)


@contextlib.contextmanager
def _send_scenario(scenarios: Any, item: pytest.Item, send: Send) -> Iterator[None]:
    try:
        yield
    finally:
        if (scenario := scenarios.get(item)) is not None:
            send((messages.SCENARIO, serialize.plain(scenario.serialize())))
