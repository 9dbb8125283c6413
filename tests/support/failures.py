"""What is in the reports of a test that failed."""

from __future__ import annotations

from typing import Any

from tests.support.project import Project


def summary_of(report: dict[str, Any]) -> str:
    """What the E line of a failure says."""
    (line,) = [line for line in report["text"].splitlines() if line.startswith("E ") and "Failed: " in line]
    return str(line.partition("Failed: ")[2])


def reports_of(project: Project, test: str = "test_it.py::test_it") -> dict[str, dict[str, Any]]:
    """The reports of that test in an isolated run, by phase."""
    return {
        record["when"]: record
        for record in project.records("--isolate-all")
        if record.get("test") == test and "when" in record
    }
