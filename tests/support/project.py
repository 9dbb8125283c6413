"""Projects that are run plain and isolated, each by a pytest of its own. A plugin: it has the fixture ``project``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.pytest_forkserver import ForkServer

_REPOSITORY = Path(__file__).parents[2]
#: Plugins of the environment that a run does without, but for the tests that :meth:`Project.load` them.
_SLOW_TO_LOAD = ("anyio", "asyncio", "hypothesispytest")
QUICK = tuple(word for plugin in _SLOW_TO_LOAD for word in ("-p", f"no:{plugin}"))
#: A delegated cgroup for all runs, where the user has none by itself: ``--isolate-cgroup``.
_CGROUP = os.environ.get("ISOLATE_CGROUP")
#: Sandboxes at a time in all runs: ``ISOLATE_JOBS=2 sh tests/run`` sees that nothing differs.
_JOBS = os.environ.get("ISOLATE_JOBS")

#: Before, a test that asks for a higher-scoped fixture waits for its turn (docs/options.md).
FIXTURES_STAY = pytest.version_tuple >= (8, 4)
fixtures_stay = pytest.mark.skipif(not FIXTURES_STAY, reason="each waits for its turn: see docs/options.md")

#: Writes each report that pytest logs, and each warning, as one line of JSON.
_RECORDER = """
import json
import os
import pytest

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "records.jsonl")

def note(**record):
    with open(FILE, "a") as file:
        file.write(json.dumps(record, default=str) + "\\n")

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    note(
        test=report.nodeid, when=report.when, outcome=report.outcome, text=report.longreprtext,
        xfail=getattr(report, "wasxfail", None),
        skip=list(report.longrepr) if isinstance(report.longrepr, tuple) else None,
        sections=report.sections, location=report.location, keywords=sorted(report.keywords),
        properties=[pair for pair in report.user_properties if not str(pair[0]).startswith("isolate_")],
        subtest=repr(getattr(report, "context", None)),
    )

def pytest_warning_recorded(warning_message, when, nodeid):
    note(warning=str(warning_message.message), category=warning_message.category.__name__,
         file=warning_message.filename,
         line=warning_message.lineno, during=when, test=nodeid)
"""

#: A plugin for the project: the keeper of tests/support, with what this project wants of it.
_FAKE_KEEPER = """
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from pytest_isolate.plugin.run import session_keeper
from pytest_isolate.sandbox.outcome import Change, Usage
from tests.support.fake_keeper import FakeKeeper

class FakeKeeperHere(FakeKeeper):
    def on_init(self):
        {init}

    def on_check(self):
        {check}

    def on_run(self):
        {run}

    def changes(self, messages):
        return dict({changes})

session_keeper.Keeper = FakeKeeperHere
"""


class Project:
    """A folder with tests, run by pytest with our plugin, in a process of its own."""

    def __init__(self, pytester: pytest.Pytester, forkserver: ForkServer) -> None:
        self.pytester = pytester
        self._forkserver = forkserver
        self.path = pytester.path
        self.patience = 300  #: seconds that a run may take
        self.is_forked = (
            True  #: whether runs are forked off a process that has loaded pytest, and what most of them need
        )
        self.options: list[str] = [f"--isolate-cgroup={_CGROUP}"] if _CGROUP else []  #: what every run is given
        self.options += QUICK
        if _JOBS:
            self.options += [f"--isolate-jobs={_JOBS}"]
        # Installed, it is loaded by its entry point; and a plugin must not be loaded under two names.
        if not any(metadata.distributions(name="pytest-isolate-ns", path=[*sys.path, str(_REPOSITORY)])):
            self.options += ["-p", "pytest_isolate.plugin.hooks"]

    def write(self, **files: str) -> None:
        """Python files, by name without ``.py``."""
        self.pytester.makepyfile(**files)

    def compile(self, source: str) -> str:
        """A shared library of C source, by its path; the test needs "compiler"."""
        path = self.path / "library.so"
        path.with_suffix(".c").write_text(source)
        compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", path, path.with_suffix(".c"), "-lpthread"], check=True
        )
        return str(path)

    def load(self, *plugins: str) -> None:
        """Let runs load these of the environment's plugins, which they otherwise do without."""
        for plugin in plugins:
            place = self.options.index(f"no:{plugin}")
            del self.options[place - 1 : place + 1]

    def fake_keeper(self, *, run: str = "pass", check: str = "pass", init: str = "pass", **changes: str) -> None:
        """Replace the keeper by one that only forks.

        ``changes``: expressions for fields of the Outcome, of ``messages``; the rest: statements.
        """
        self.pytester.makepyfile(
            fake_keeper_here=_FAKE_KEEPER.format(
                run=run, check=check, init=init, changes=", ".join(f"{name}={value}" for name, value in changes.items())
            )
        )
        self.options += ["-p", "fake_keeper_here", "--isolate-jobs=1"]

    def run(self, *arguments: str) -> pytest.RunResult:
        given = [*self.options, "-p", "no:cacheprovider", *arguments]
        if not self.is_forked:
            return self.pytester.runpytest_subprocess(*given, timeout=self.patience)
        return self._forkserver.run(self.pytester, given, self.patience)

    def isolated(self, *arguments: str) -> pytest.RunResult:
        return self.run("--isolate-all", *arguments)

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """What a run told its plugins: its reports in the order of logging, and its warnings."""
        self.pytester.makepyfile(recorder=_RECORDER)
        file = self.path / "records.jsonl"
        file.unlink(missing_ok=True)
        self.run("-p", "recorder", *arguments)
        return [json.loads(line) for line in file.read_text().splitlines()]

    def spans(self, *arguments: str) -> list[tuple[float, float]]:
        """From when to when each isolated test ran, in the order of beginning: its properties ``begin`` and ``end``."""
        calls = [record for record in self.records("--isolate-all", *arguments) if record["when"] == "call"]
        return sorted({(known["begin"], known["end"]) for known in (dict(call["properties"]) for call in calls)})

    def compared(self, *arguments: str) -> list[dict[str, Any]]:
        """The records of an isolated run, after seeing that a plain run has the same."""
        plain = [_without_addresses(record) for record in self.records(*arguments)]
        isolated = [_without_addresses(record) for record in self.records("--isolate-all", *arguments)]
        assert _reports(isolated) == _reports(plain)
        assert _warnings(isolated) == _warnings(plain)
        return _reports(isolated)


#: Two tests that run at the same time where they may, and tell when.
TWO_SLOW_TESTS = """
import time
import pytest

@pytest.mark.parametrize("number", range(2))
def test_slow(number, record_property):
    record_property("begin", time.monotonic())
    time.sleep(1)
    record_property("end", time.monotonic())
"""


def indent(text: str) -> str:
    """A body for a test function, from a text with any common indentation."""
    lines = text.strip("\n").splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join("    " + line[margin:] for line in lines)


def _without_addresses(record: dict[str, Any]) -> dict[str, Any]:
    """Without addresses of objects, which differ from run to run."""
    return json.loads(re.sub(r"0x[0-9a-f]{6,}", "0x", json.dumps(record)))  # type: ignore[no-any-return]


def _reports(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports; without the traceback through pytest of an xfail that is not run, which 8.0 has and nobody sees."""
    return [
        record | {"text": ""} if "[NOTRUN]" in str(record["xfail"]) else record
        for record in records
        if "when" in record
    ]


def _warnings(records: Sequence[dict[str, Any]]) -> list[str]:
    """Sorted: one test's warnings from outside come after those from inside."""
    return sorted(json.dumps(record) for record in records if "warning" in record)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forkserver: ForkServer) -> Project:
    """An empty project; nothing of this run's environment reaches it."""
    # The last two: hypothesis keeps no examples where it finds CI, which tox hides from programs, but not from it.
    for name in (
        *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_TIMEOUT", "CI", "__TOX_ENVIRONMENT_VARIABLE_ORIGINAL_CI"),
        *("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}{os.pathsep}{_REPOSITORY}")
    return Project(pytester, forkserver)
