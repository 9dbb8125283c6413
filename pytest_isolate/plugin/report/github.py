"""What GitHub Actions shows of a run beside its log: annotations at the lines of tests, a step's summary.

Text only; the workflow commands and their escapes are those of GitHub's documentation ("Workflow commands").
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from pytest_isolate.plugin.report import summary

#: GitHub shows no more errors of a step, and no more warnings.
_MOST_ANNOTATIONS = 10
_MOST_ROWS = 50
_LONGEST = 300  # characters of a reason in the summary's table
_LEAKS = "isolate_leaks"


#: Of another plugin, which annotates all failures itself.
_ANNOTATES = "pytest_github_actions_annotate_failures"


def tell(
    terminal: pytest.TerminalReporter, config: pytest.Config, isolated: Sequence[Any], *, everything: bool
) -> None:
    """Write annotations to the log and the summary to GitHub's file, if there was an isolated test.

    :param isolated: reports that have figures of a sandbox.
    :param everything: all tests were to be isolated. One whose sandbox cannot be had here has no figures.
    """
    failed = [report for category in ("failed", "error") for report in terminal.stats.get(category, ())]
    ours = {id(report) for report in isolated}
    failed = [each for each in failed if everything or id(each) in ours or "isolate" in getattr(each, "keywords", ())]
    failed = [each for each in failed if isinstance(each, pytest.TestReport)]
    if not failed and not isolated:
        return
    root = os.fspath(config.rootpath)
    workspace = os.environ.get("GITHUB_WORKSPACE", root)
    bad = {report.nodeid for report in failed}
    sections = dict(summary.sections(isolated, rows=summary.ROWS))
    lines = [] if config.pluginmanager.hasplugin(_ANNOTATES) else [*annotate(failed, root=root, workspace=workspace)]
    others = [report for report in isolated if report.nodeid not in bad]
    for line in [*lines, *warn(others, sections.get(summary.DEGRADED, ()), root=root, workspace=workspace)]:
        terminal.write_line(line)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        passed = {report.nodeid for report in isolated if report.when == "call" and report.passed} - bad
        text = step_summary(failed, len(passed), sections.items())
        try:
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            terminal.write_line(f"isolate: cannot write GitHub's summary {path}: {error.strerror or error}")


def annotate(failed: Sequence[Any], *, root: str, workspace: str) -> Iterator[str]:
    """Workflow commands, one for each of the reports ``failed``.

    :param root: pytest's root directory, which locations of reports count from.
    :param workspace: the checkout, which GitHub's paths count from.
    """
    for report in failed[:_MOST_ANNOTATIONS]:
        yield f"::error {_properties(report, root, workspace)}::{_escape(_reason(report))}"


def warn(others: Sequence[Any], degraded: Sequence[str], *, root: str, workspace: str) -> Iterator[str]:
    """Workflow commands for what no failure tells.

    :param others: reports of isolated tests that did not fail; all phases of one tell of the same leaks.
    :param degraded: keys that are not in force, with the reason.
    """
    for line in degraded[:_MOST_ANNOTATIONS]:
        yield f"::warning title=isolated with less than asked for::{_escape(line)}"
    left = {each.nodeid: (each, text) for each in others for name, text in each.user_properties if name == _LEAKS}
    for report, text in [*left.values()][: max(0, _MOST_ANNOTATIONS - len(degraded))]:
        yield f"::warning {_properties(report, root, workspace)}::left behind: {_escape(str(text))}"


def step_summary(failed: Sequence[Any], passed: int, sections: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Markdown for the file of GITHUB_STEP_SUMMARY.

    :param passed: number of isolated tests that did.
    :param sections: title and lines, as the terminal's summary has them.
    """
    lines = [f"### Isolated tests: {passed} passed, {len(failed)} failed", ""]
    if failed:
        lines += ["| test | why |", "|---|---|"]
        lines += [f"| {_code(report.nodeid)} | {_cell(_reason(report))} |" for report in failed[:_MOST_ROWS]]
        if len(failed) > _MOST_ROWS:
            lines.append(f"| ... and {len(failed) - _MOST_ROWS} more | |")
        lines.append("")
    for title, content in sections:
        lines += [f"#### {title[0].upper()}{title[1:]}", "", *(f"    {line}" for line in content), ""]
    return "\n".join(lines) + "\n"


def _properties(report: Any, root: str, workspace: str) -> str:
    path, line = _place(report)
    file = os.path.relpath(os.path.join(root, path), workspace)
    return f"file={_escape_property(file)},line={line},title={_escape_property(report.nodeid)}"


def _place(report: Any) -> tuple[str, int]:
    """Where the test failed if that is in its own file, else where it stands."""
    path, line, _ = report.location
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and os.path.basename(str(crash.path)) == os.path.basename(path):
        return path, int(crash.lineno)
    return path, (line or 0) + 1


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longreprtext if crash is None else crash.message).strip()
    where = f"in {report.when}: " if report.when in ("setup", "teardown") else ""
    return where + text


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """The first line, as code, which neither Markdown nor HTML touches."""
    first = text.partition("\n")[0]
    return _code(first if len(first) <= _LONGEST else f"{first[:_LONGEST]}...")


def _code(text: str) -> str:
    """Backticks and bars would end the code, or the cell."""
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`" if text else ""
