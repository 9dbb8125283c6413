"""pytest-json-report: what a test that died had written.

It takes that from the item, inside, and puts it on each report as ``_json_report_extra``. Seen with 1.5.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class JsonReport(Integration):
    """Only reports that the child did not make lack it."""

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Give such a report the output of its phase."""
        written: Any = report
        if hasattr(self.config, "_json_report") and not hasattr(written, "_json_report_extra"):
            streams = {stream: f"Captured {stream} {report.when}" for stream in ("stdout", "stderr")}
            sections = dict(report.sections)
            found = {stream: sections[name] for stream, name in streams.items() if name in sections}
            written._json_report_extra = {report.when: found}
