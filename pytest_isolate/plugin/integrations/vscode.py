"""The test explorer of VS Code: its plugin tells the editor of each test, by a named pipe that it opens when it has to.

It hears of failed set-ups by ``pytest_exception_interact``, which pytest calls inside. There the pipe's name leads to
another pipe, which nobody reads: the test would wait for ever. So that hook of the plugin is called outside instead,
of tests that died as well. Seen with the extension of 2026; its plugin is the module ``vscode_pytest``.

Private: ``HookCaller._hookimpls``, pluggy 1.3 to 1.7.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import pytest

from pytest_isolate.plugin import phases
from pytest_isolate.plugin.integrations.integration import Integration


class VsCode(Integration):
    """Nothing where pytest was started otherwise."""

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """The child is to leave its hook out."""
        if self._plugin is None:
            return None
        caller: Any = self.config.hook.pytest_exception_interact
        others = [hook for hook in caller.get_hookimpls() if hook.plugin is not self._plugin]
        return partial(setattr, caller, "_hookimpls", others)

    def logged(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Call it, when the report has been logged, as pytest does."""
        if self._plugin is not None and report.failed:
            call = phases.run_phase(report.when, _fail, report=report)
            self._plugin.pytest_exception_interact(node=item, call=call, report=report)

    @functools.cached_property
    def _plugin(self) -> Any:
        plugin = self.config.pluginmanager.getplugin("vscode_pytest")
        return plugin if hasattr(plugin, "pytest_exception_interact") else None


def _fail(report: pytest.TestReport) -> NoReturn:
    """As the phase did: to the editor a failed assertion is a failure, and all else an error."""
    message = str(getattr(getattr(report.longrepr, "reprcrash", None), "message", ""))
    if message.startswith(("assert ", "AssertionError")):
        raise AssertionError(message)
    pytest.fail(message, pytrace=False)
