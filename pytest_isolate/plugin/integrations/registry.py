"""The plugins that are looked after, and what is done for all of them at once.

They are found by what their objects have, not by version. All of it is private to them; where it looks otherwise than
the modules here expect, nothing crosses, as with any plugin that has no module here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pytest_isolate.plugin import hook_callers
from pytest_isolate.plugin.integrations import makereport
from pytest_isolate.plugin.integrations.allure import Allure
from pytest_isolate.plugin.integrations.bdd import Bdd
from pytest_isolate.plugin.integrations.benchmark import Benchmark
from pytest_isolate.plugin.integrations.browsers import Browsers
from pytest_isolate.plugin.integrations.coverage import Coverage
from pytest_isolate.plugin.integrations.debugger import Debugger
from pytest_isolate.plugin.integrations.dependency import Dependency
from pytest_isolate.plugin.integrations.executors import Executors
from pytest_isolate.plugin.integrations.host_name import HostName
from pytest_isolate.plugin.integrations.hypothesis import Hypothesis
from pytest_isolate.plugin.integrations.imports import Imports
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.integrations.json_report import JsonReport
from pytest_isolate.plugin.integrations.junitxml import JunitXml
from pytest_isolate.plugin.integrations.live_log import LiveLog
from pytest_isolate.plugin.integrations.multiprocessing_helpers import MultiprocessingHelpers
from pytest_isolate.plugin.integrations.multiprocessing_semaphores import MultiprocessingSemaphores
from pytest_isolate.plugin.integrations.own_process import OwnProcess
from pytest_isolate.plugin.integrations.patterns import Patterns
from pytest_isolate.plugin.integrations.pyfakefs import PyFakeFs
from pytest_isolate.plugin.integrations.rerunfailures import RerunFailures
from pytest_isolate.plugin.integrations.retry import Retry
from pytest_isolate.plugin.integrations.servers import Servers
from pytest_isolate.plugin.integrations.session_processes import SessionProcesses
from pytest_isolate.plugin.integrations.subtests import Subtests
from pytest_isolate.plugin.integrations.syrupy import Syrupy
from pytest_isolate.plugin.integrations.teamcity import TeamCity
from pytest_isolate.plugin.integrations.textual_snapshot import TextualSnapshot
from pytest_isolate.plugin.integrations.type_checks import TypeChecks
from pytest_isolate.plugin.integrations.vscode import VsCode
from pytest_isolate.plugin.integrations.xdist import Xdist
from pytest_isolate.plugin.messages import Send

#: In the order in which they act. Coverage comes first, so that it measures what the others do round the test.
INTEGRATIONS: tuple[type[Integration], ...] = (
    Coverage,
    Debugger,
    JunitXml,
    JsonReport,
    LiveLog,
    Subtests,
    Benchmark,
    Syrupy,
    Retry,
    Bdd,
    Allure,
    Dependency,
    Hypothesis,
    MultiprocessingHelpers,
    Executors,
    PyFakeFs,
    MultiprocessingSemaphores,
    SessionProcesses,
    OwnProcess,
    Xdist,
    RerunFailures,
    Servers,
    Browsers,
    HostName,
    TypeChecks,
    TextualSnapshot,
    Imports,
    Patterns,
    VsCode,
    TeamCity,
)

#: Methods that are called for each test.
_FOR_EACH_TEST = ("stands_alone", "folders", "before", "around", "after", "outcomes", "log", "logged")


class Integrations:
    """All of them, for one session of pytest. Methods as of :class:`.Integration`."""

    def __init__(self, config: pytest.Config, makereport_outside: Iterable[str]) -> None:
        """:param makereport_outside: names of further plugins whose ``pytest_runtest_makereport`` runs outside."""
        self._all = [integration(config) for integration in INTEGRATIONS]
        #: Those that have such a method of their own. Most have one or two, and 170 calls a test would do nothing.
        self._with = {name: [each for each in self._all if _has_own(each, name)] for name in _FOR_EACH_TEST}
        #: Names of the plugins, beside which no test may begin before those before it have been reported.
        self.outside = {*makereport_outside, *(name for each in self._all for name in each.makereport_outside)}
        self._makereport_outside = set().union(*hook_callers.find_plugins(config, self.outside).values())

    def is_inside(self, definition: pytest.FixtureDef[Any]) -> bool:
        """Whether each sandbox sets up this higher-scoped fixture for itself."""
        return any(each.is_inside(definition) for each in self._all)

    def stands_alone(self, item: pytest.Item) -> bool:
        """Whether no other test may run beside it."""
        return any(each.stands_alone(item) for each in self._with["stands_alone"])

    def folders(self, item: pytest.Item) -> list[str]:
        """Folders of the host that the plugins write to from inside."""
        return [folder for each in self._with["folders"] for folder in each.folders(item)]

    def keep_in_order(self, item: pytest.Item) -> bool:
        """Whether such a folder is to be written by one test after another, in their order."""
        return any(not each.shares_folders and each.folders(item) for each in self._with["folders"])

    def before(self, item: pytest.Item, attempts: int) -> list[Callable[[], object]]:
        """What the child is to do before the test."""
        return [step for each in self._with["before"] if (step := each.before(item, attempts)) is not None]

    def around(self, item: pytest.Item) -> list[Forwarder]:
        """What the child is to have round the test's protocol, the outermost first."""
        return [forwarder for each in self._with["around"] if (forwarder := each.around(item)) is not None]

    def after(self) -> list[Callable[[Send], None]]:
        """What the child is to do after the test."""
        return [step for each in self._with["after"] if (step := each.after()) is not None]

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Give a plugin what the child sent. :raises Exception: of any kind, if it is no message of the child's."""
        for each in self._all:
            if kind in each.kinds:
                each.receive(item, kind, data)
                return
        raise ValueError(f"unknown kind {kind!r}")

    def outcomes(self) -> set[str]:
        """What a report may have as outcome beside pytest's own."""
        return {outcome for each in self._with["outcomes"] for outcome in each.outcomes()}

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Tell the plugins of a report, before it is logged."""
        if hasattr(report, "context"):  # of a sub-test
            return
        if self._makereport_outside:
            makereport.notify(item, self._makereport_outside, report)
        for each in self._with["log"]:
            each.log(item, report)

    def logged(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Tell the plugins of a report that has been logged."""
        if not hasattr(report, "context"):
            for each in self._with["logged"]:
                each.logged(item, report)

    def finish(self) -> None:
        """All tests have been run."""
        for each in self._all:
            each.finish()


def _has_own(integration: Integration, method: str) -> bool:
    return getattr(type(integration), method) is not getattr(Integration, method)
