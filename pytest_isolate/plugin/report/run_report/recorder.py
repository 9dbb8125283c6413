"""The plugin that follows a run for its report: registered only where somebody asks for one.

What only the process that ran a test knows travels with the report of the test's tear-down, as an attribute, which
xdist takes to its controller as it does pytest's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.report.run_report import data, page
from pytest_isolate.plugin.report.whole_file import write_whole

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Outcome


class Recorder:
    """Gathers the reports of each test; writes the files when the session ends."""

    def __init__(self, config: pytest.Config, files: Iterable[str], *, worker: bool) -> None:
        """:param worker: of xdist, which only adds to reports: its controller writes."""
        self._config = config
        self._files = tuple(files)
        self._worker = worker
        self._began = time.time()
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._tests: dict[str, data.Test] = {}
        self._not_collected: list[dict[str, str]] = []
        self._written: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_isolate_outcome(self, item: pytest.Item, outcome: Outcome) -> None:
        self._outcomes[item.nodeid] = data.sandbox(outcome)

    @pytest.hookimpl(tryfirst=True)  # before a worker of xdist sends it
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown" and (found := self._outcomes.pop(report.nodeid, None)) is not None:
            vars(report)[data.ATTRIBUTE] = found
        if not self._worker:
            self._tests.setdefault(report.nodeid, data.Test(report.nodeid)).add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._not_collected.append({"id": report.nodeid, "text": data.shorten(report.longreprtext)})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._worker:
            return
        run = data.describe_run(self._config, began=self._began, exit_status=int(exitstatus))
        document = data.document(run, self._tests.values(), self._not_collected)
        for path in self._files:
            text = page.render(document) if path.endswith(".html") else json.dumps(document, indent=1) + "\n"
            self._write(path, text)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._written:
            terminalreporter.write_line(line)

    def _write(self, path: str, text: str) -> None:
        """A server may be showing the last one. A failure is told, and fails no test."""
        try:
            write_whole(path, text)
        except OSError as error:
            self._written.append(f"isolate: cannot write the report {path}: {error.strerror or error}")
        else:
            self._written.append(f"isolate: report written to {path}")
