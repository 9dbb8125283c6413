"""Inside: the plugin that sends each report and warning to pytest, as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from _pytest.logging import LogCaptureHandler, catching_logs  # no public names; the same in 8.0, 9.0, 9.2

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import hook_callers, phases, serialize
from pytest_isolate.plugin.messages import AGAIN, REPORT  # by name: the child looks at one module less
from pytest_isolate.plugin.run import garbage

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line

#: Hooks by which plugins follow a test.
_LOG_HOOKS = ("pytest_runtest_logstart", "pytest_runtest_logreport", "pytest_runtest_logfinish")


class Messenger:
    """The plugin that sends each report to the parent, and says when a debugger waits for somebody.

    Registered before the first fork, and idle in the parent: registering takes pluggy longer than an empty test does.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._line: Line | None = None
        #: Of each hook: its caller, our implementations, and all. To forget these inside would write to each of them.
        self._callers: list[tuple[Any, list[Any], list[Any]]] = []
        self._owner = 0
        self._starts = 0
        self._teardown: pytest.TestReport | None = None  #: is not sent yet
        self._broke_off = False  #: set-up or call of the test, so it never came to close what its frames have
        self._collect = garbage.make_collector(config)
        # As thread_logs.py, which says what is private here.
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        self._capture = capture if capture is not None and capture.is_globally_capturing() else None
        self._logging: Any = config.pluginmanager.getplugin("logging-plugin")
        self._handler = LogCaptureHandler()
        if self._logging is not None:
            self._handler.setFormatter(self._logging.formatter)

    def register(self) -> None:
        """In the parent."""
        manager = self._config.pluginmanager
        manager.register(self, "isolate-messenger")
        others = [plugin for plugin in manager.get_plugins() if plugin is not self]
        for name in _LOG_HOOKS:
            caller: Any = getattr(self._config.hook, name)
            own = [*manager.subset_hook_caller(name, others)._hookimpls]
            self._callers.append((caller, own, caller._hookimpls))

    def take_over(self, line: Line) -> None:
        """Let each logged report go to the parent instead of to the plugins of this process.

        The plugins that get reports (terminal, junitxml, xdist's worker, which has the controller's socket) would get
        each twice. Proxies of ``item.ihook`` look into the caller's list each time. Private:
        ``HookCaller._hookimpls``, pluggy 1.3 to 1.7.
        """
        self._line, self._owner = line, calls.getpid()
        for caller, own, _ in self._callers:
            caller._hookimpls = own

    @pytest.hookimpl
    def pytest_plugin_registered(self) -> None:
        hook_callers.forget_callers(self._config)

    @pytest.hookimpl
    def pytest_runtest_logstart(self) -> None:
        """Inside, only the protocol of another plugin starts a test, and once more if it tries the test again."""
        if self._line is not None:
            self._starts += 1
            if self._starts > 1:
                self._broke_off = False
                self.send_tear_down()
                self._line((AGAIN, None))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._line is None:
            return
        if calls.getpid() != self._owner:  # the test forked, and its child came out of the test function
            calls.exit(1)
        if report.when == "teardown":
            self.send_tear_down()
            self._teardown = report
        else:
            if not report.passed:
                self._broke_off = True
            self._send(report)

    def collect(self, item: pytest.Item) -> None:
        """Find the test's garbage. What its finalisers write and log is output of the tear-down, not the terminal's.

        In few words, each of which costs pages. :raises Exception: a warning that is an error, or a group of them.
        """
        capture = self._capture
        if capture is not None:
            capture.resume_global_capture()
        try:
            if self._logging is None:
                self._collect()
            else:
                with catching_logs(self._handler, level=self._logging.log_level):
                    self._collect()
        finally:
            if capture is not None:
                capture.suspend_global_capture(in_=False)
                out, err = capture.read_global_capture()
                if out or err:
                    self._add_output(item, "stdout", out)
                    self._add_output(item, "stderr", err)
            if logged := self._handler.stream.getvalue():
                self._add_output(item, "log", logged.strip())

    def _add_output(self, item: pytest.Item, stream: str, text: str) -> None:
        item.add_report_section("teardown", stream, text)  # for a report that is yet to be made
        if text and self._teardown is not None:
            self._teardown.sections.append((f"Captured {stream} teardown", text))

    def fail_tear_down(self, item: pytest.Item, error: Exception) -> None:
        """Make the tear-down fail of what was found after it, unless the test has failed already."""
        if self._teardown is not None and self._teardown.passed and not self._broke_off:
            self._teardown = phases.report_phase(item, "teardown", _raise, error=error)

    def send_tear_down(self) -> None:
        """Send the report of the tear-down, if there is one."""
        if self._teardown is not None:
            self._send(self._teardown)
            self._teardown = None

    def _send(self, report: pytest.TestReport) -> None:
        if self._line is not None:
            self._line((REPORT, serialize.pack(self._config, report)))

    @pytest.hookimpl
    def pytest_enter_pdb(self) -> None:
        """Be it by --pdb, --trace or ``breakpoint()``."""
        if self._line is not None:
            self._line.attended()


def _raise(error: Exception) -> None:
    raise error
