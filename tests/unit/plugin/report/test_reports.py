"""What a run adds to its test's reports."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_isolate.plugin.report import reports
from pytest_isolate.sandbox.outcome import Change, Leak, Outcome, Usage
from pytest_isolate.spec.spec import Spec

HOW_TO = (Path(__file__).parents[4] / "docs/howto.md").read_text()


def test_the_how_to_has_each_property() -> None:
    usage = Usage(
        wall_seconds=1, cpu_seconds=1, memory_peak_bytes=1, pids_peak=1, read_bytes=1, write_bytes=1,
        changes=(Change("A", "/a"),),
    )  # fmt: skip
    leaks = (Leak("process", "sleep", "since call"),)
    outcome = Outcome(spec=Spec(), usage=usage, pids_denied=1, leaks=leaks, degraded=(("memory", "no cgroup"),))

    names = {name for name, _ in reports.properties(outcome)}

    table = HOW_TO.partition("## Find the figures")[2].partition("\n## ")[0]
    assert names == set(re.findall(r"`(isolate_\w+)`", table))
