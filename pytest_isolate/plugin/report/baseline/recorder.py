"""The plugin that compares a run with its baseline, or stores it there: registered only where somebody asks for it.

Figures travel with reports, so under xdist the controller has all that it needs; workers have no such plugin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from pytest_isolate.plugin.report.baseline import comparison, stored
from pytest_isolate.plugin.report.whole_file import write_whole

_TITLE = "compared with the baseline (--isolate-baseline)"
#: Options that leave out tests of a file, by pytest's names of them.
_NARROWING = ("keyword", "markexpr", "deselect", "lf", "stepwise")


def register(config: pytest.Config, file: str, noise: comparison.Noise, *, update: bool, fails: bool) -> None:
    """Compare the run with what ``file`` has. :raises pytest.UsageError: it cannot be read.

    :param update: store the run there. :param fails: a test that grew fails the run.
    """
    try:
        with open(file, encoding="utf-8") as opened:
            known = stored.parse(opened.read())
    except FileNotFoundError:
        known = {}
    except OSError as error:
        raise pytest.UsageError(f"--isolate-baseline: cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # also of the decoder
        raise pytest.UsageError(f"--isolate-baseline: {file}: {error}") from None
    recorder = BaselineRecorder(config, file, known, noise)
    recorder.update, recorder.fails = update, fails
    config.pluginmanager.register(recorder, "isolate-baseline")


class BaselineRecorder:
    """Gathers what passing tests used; compares and stores it when the session ends."""

    def __init__(
        self, config: pytest.Config, file: str, known: dict[str, stored.Measured], noise: comparison.Noise
    ) -> None:
        """:param known: what the file has."""
        self._config = config
        self._file = file
        self._known = known
        self._noise = noise
        self.update = False  #: store the run
        self.fails = False  #: a test that grew fails the run
        self._collected: set[str] = set()
        self._run: dict[str, stored.Measured] = {}
        self._lines: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected.update(stored.name_of(item.nodeid) for item in session.items)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._collected.update(stored.name_of(item.nodeid) for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._collected.update(map(stored.name_of, ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures of a test whose call passed; a failure, of its tear-down too, says nothing of others."""
        name = stored.name_of(report.nodeid)
        if not report.passed or hasattr(report, "wasxfail"):
            self._run.pop(name, None)
        elif report.when == "call" and (found := stored.measured(dict(_properties(report)))) is not None:
            self._run[name] = found

    @pytest.hookimpl(tryfirst=True)  # before pytest shows the exit status
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self._lines.append(f"{self._file} was not compared, nor stored: the run did not come to its end")
            return
        found = comparison.compare(
            self._known, self._run, self._noise, collected=self._collected, files=self._whole_files()
        )
        self._lines += found.lines()
        if self.update:
            self._store(comparison.merge(self._known, self._run, found.gone))
        elif found.grown and self.fails and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._lines.append(self._conclude(found))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(_TITLE)
        for line in self._lines:
            terminalreporter.line(line)

    def _whole_files(self) -> set[str]:
        """Files of which no test was left out, and those with stored tests that are no more."""
        option = self._config.option
        narrowed = any(getattr(option, name, None) for name in _NARROWING)
        if narrowed or any("::" in argument for argument in self._config.args):
            return set()
        removed = {
            file for file in map(stored.file_of, self._known) if not os.path.exists(self._config.rootpath / file)
        }
        return {stored.file_of(name) for name in self._collected} | removed

    def _conclude(self, found: comparison.Comparison) -> str:
        if not self._run:
            return "nothing to compare: figures are those of isolated tests that pass"
        grew = len({growth.test for growth in found.grown})
        fails = ", which fails the run (--isolate-baseline-fail)" if grew and self.fails and not self.update else ""
        text = f"{_tests(found.compared)} compared by {', '.join(found.figures)}: " if found.compared else ""
        text += f"{grew} grew beyond noise{fails}; " if found.compared else ""
        if self.update:
            return f"{text}{_tests(len(self._run))} stored in {self._file}"
        later = ", as --isolate-baseline-update does" if found.new or found.gone or found.grown else ""
        return f"{text}nothing stored in {self._file}{later}"

    def _store(self, tests: dict[str, stored.Measured]) -> None:
        """A failure is told, and fails no test."""
        try:
            write_whole(self._file, stored.render(tests))
        except OSError as error:
            self._lines.append(f"cannot write {self._file}: {error.strerror or error}")


def _tests(number: int) -> str:
    return "1 test" if number == 1 else f"{number} tests"


def _properties(report: pytest.TestReport) -> Iterator[tuple[str, object]]:
    for name, value in report.user_properties or ():
        yield str(name), value
