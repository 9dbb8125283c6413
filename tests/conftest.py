"""What all tests share: capabilities that a test needs of the host, and projects that are run plain and isolated."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.errors import UnsupportedError
from pytest_isolate.session import Keeper
from pytest_isolate.spec import Spec

pytest_plugins = ["pytester"]

_REPOSITORY = Path(__file__).parent.parent
#: Plugins of the environment that a run does without, but for the tests that :meth:`Project.load` them.
_SLOW_TO_LOAD = ("anyio", "asyncio", "hypothesispytest")
#: A delegated cgroup for all runs, where the user has none by itself: ``--isolate-cgroup``.
CGROUP = os.environ.get("ISOLATE_CGROUP")
#: Plugins that a test may need and that are not called pytest-*; ``ISOLATE_MUST=neighbours`` means them all.
_NEIGHBOURS = {"allure-pytest", "flaky", "syrupy"}
_SKIPPED: pytest.StashKey[Counter[str]] = pytest.StashKey()

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

#: A keeper that only forks, for what no sandbox is needed for: any host can run it, and the test says how the run ends.
_FAKE_KEEPER = """
import dataclasses, os
import pytest
from pytest_isolate import keeping, wire
from pytest_isolate.errors import SetupError, UnsupportedError
from pytest_isolate.guest import Line
from pytest_isolate.outcome import Change, Outcome, Usage

class FakeLine(Line):
    def __call__(self, message):
        wire.send(self.channel, message)

class FakeKeeper:
    def __init__(self, **asked):
        {on_init}

    def describe(self):
        return "fake"

    def check(self, spec):
        {on_check}

    def degraded(self, spec):
        return ()

    def look_again(self):
        pass

    def close(self):
        pass

    def run(self, spec, body, *, ahead=None, keep=None, more=0):
        {on_run}
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            body(FakeLine(writer, -1, spec, ()))
            wire.send(writer, "end")
            os._exit(0)
        os.close(writer)
        frames, messages = wire.Reader(), []
        while piece := os.read(reader, 1 << 20):
            messages += frames.feed(piece)
        os.close(reader)
        status = os.waitpid(pid, 0)[1]
        complete = messages[-1:] == ["end"]
        outcome = Outcome(
            spec=spec, usage=Usage(wall_seconds=0.25), complete=complete,
            messages=tuple(messages[:-1] if complete else messages),
            exit_status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        )
        return dataclasses.replace(outcome, {changes})

keeping.Keeper = FakeKeeper
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*capabilities): what the test needs of the host; skipped, aloud, where it is lacking"
    )
    config.stash[_SKIPPED] = Counter()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background job. A pytest that a test starts would inherit it, and be deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            if (reason := _lack(capability)) is not None:
                _without(item.config, capability, reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skipped := config.stash[_SKIPPED]:
        terminalreporter.section("capabilities that this host lacks")
        for capability, number in sorted(skipped.items()):
            terminalreporter.line(f"{capability}: {number} tests skipped")


def _without(config: pytest.Config, capability: str, reason: str) -> None:
    """Skip, unless ``ISOLATE_MUST`` (``userns,memory``, or ``all``) says that this machine has it."""
    must = os.environ.get("ISOLATE_MUST", "").split(",")
    neighbour = capability in _NEIGHBOURS or capability.startswith("pytest-")
    if capability in must or "all" in must or (neighbour and "neighbours" in must):
        pytest.fail(f"ISOLATE_MUST names {capability}, but: {reason}", pytrace=False)
    config.stash[_SKIPPED][capability] += 1
    pytest.skip(f"needs {capability}: {reason}")


def _lack(capability: str) -> str | None:
    """Why this host lacks a capability, or this environment another plugin; None if it has it."""
    if capability in _NEIGHBOURS or capability.startswith("pytest-"):
        installed = any(metadata.distributions(name=capability))
        return None if installed else f"{capability} is not installed; tox -e neighbours has it"
    if capability == "nat":
        return _no_way_out()
    known, reasons = _capabilities()
    return None if capability in known else reasons.get(capability, f"this host has no {capability}")


@cache
def _capabilities() -> tuple[frozenset[str], dict[str, str]]:
    """Names of what works here, found by trying, and why what does not does not."""
    try:
        with Keeper(cgroup=CGROUP) as keeper:
            return keeper.sandboxes.capabilities(), {
                name: reason for name, (reason, _) in keeper.sandboxes.tree.lacks.items()
            }
    except UnsupportedError as error:
        return frozenset(), {"sandbox": str(error)}


@cache
def _no_way_out() -> str | None:
    """Why no sandbox can be connected to the outside here, found by connecting one; None if it can."""
    try:
        with Keeper(cgroup=CGROUP) as keeper:
            keeper.check(Spec.of(network="nat"))
    except UnsupportedError as error:
        return str(error)
    return None


class Project:
    """A folder with tests, run by pytest with our plugin, in a process of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.patience = 300  #: seconds that a run may take
        self.options: list[str] = [f"--isolate-cgroup={CGROUP}"] if CGROUP else []  #: what every run is given
        for plugin in _SLOW_TO_LOAD:
            self.options += ["-p", f"no:{plugin}"]
        # Installed, it is loaded by its entry point; and a plugin must not be loaded under two names.
        if not any(metadata.distributions(name="pytest-isolate-ns", path=[*sys.path, str(_REPOSITORY)])):
            self.options += ["-p", "pytest_isolate.pytest_plugin"]

    def write(self, **files: str) -> None:
        """Python files, by name without ``.py``."""
        self.pytester.makepyfile(**files)

    def load(self, *plugins: str) -> None:
        """Let runs load these of the environment's plugins, which they otherwise do without."""
        for plugin in plugins:
            place = self.options.index(f"no:{plugin}")
            del self.options[place - 1 : place + 1]

    def fake_keeper(self, *, run: str = "pass", check: str = "pass", init: str = "pass", **changes: str) -> None:
        """Replace the keeper by one that only forks.

        ``changes``: expressions for fields of the Outcome; the rest: statements.
        """
        fields = ", ".join(f"{name}={expression}" for name, expression in changes.items())
        self.pytester.makepyfile(
            fake_keeper=_FAKE_KEEPER.format(on_run=run, on_check=check, on_init=init, changes=fields)
        )
        self.options += ["-p", "fake_keeper"]

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(
            *self.options, "-p", "no:cacheprovider", *arguments, timeout=self.patience
        )

    def isolated(self, *arguments: str) -> pytest.RunResult:
        return self.run("--isolate-all", *arguments)

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """What a run told its plugins: its reports in the order of logging, and its warnings."""
        self.pytester.makepyfile(recorder=_RECORDER)
        file = self.path / "records.jsonl"
        file.unlink(missing_ok=True)
        self.run("-p", "recorder", *arguments)
        return [json.loads(line) for line in file.read_text().splitlines()]

    def compared(self, *arguments: str) -> list[dict[str, Any]]:
        """The records of an isolated run, after seeing that a plain run has the same."""
        plain = [_without_addresses(record) for record in self.records(*arguments)]
        isolated = [_without_addresses(record) for record in self.records("--isolate-all", *arguments)]
        assert _reports(isolated) == _reports(plain)
        assert _warnings(isolated) == _warnings(plain)
        return _reports(isolated)


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
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project; nothing of this run's environment reaches it."""
    # The last two: hypothesis keeps no examples where it finds CI, which tox hides from programs, but not from it.
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_TIMEOUT", "CI", "__TOX_ENVIRONMENT_VARIABLE_ORIGINAL_CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}{os.pathsep}{_REPOSITORY}")
    return Project(pytester)
