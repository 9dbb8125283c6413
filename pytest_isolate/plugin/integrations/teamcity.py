"""teamcity-messages, by which PyCharm shows tests: both sides of a comparison that failed, for its difference viewer.

It keeps them on the item, or as unittest's exception in a module of its own, when the test compares, which is inside.
What they look like is sent. Private to it; seen with 1.33, and PyCharm has the same.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.messages import Send

_ON_ITEM = "_teamcity_assertion_failure"


class TeamCity(Integration):
    """Nothing where its messages are off."""

    kinds = (messages.COMPARISON,)

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._compared: tuple[pytest.Item, Any] | None = None  #: that of unittest, of a test that is yet to be told

    def after(self) -> Callable[[Send], None] | None:
        """Send what was compared, if something was."""
        plugin = self._plugin
        return None if plugin is None else partial(_send_comparison, plugin)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Put it where the plugin looks for it."""
        operator, actual, expected, message = map(str, data)
        if operator:
            setattr(item, _ON_ITEM, (operator, _Shown(actual), _Shown(expected)))
        else:
            error = _module("diff_tools").EqualsAssertionError
            self._compared = item, error(expected, actual, message, preformated=True, real_exception=AssertionError())

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Tell the plugin whose report comes, which it notes in the protocol, inside.

        That of unittest it takes for the next test that fails, whichever it is.
        """
        if self._plugin is not None:
            self._plugin.current_test_item = item
        if self._compared is not None and report.when == "call":
            of, error = self._compared
            self._compared = None
            if of is item and report.failed:
                _module("jb_local_exc_store").store_exception(error)

    @property
    def _plugin(self) -> Any:
        return getattr(self.config, "_teamcityReporting", None)


class _Shown:
    """Looks as the value did that it stands for, which stays inside."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _send_comparison(plugin: Any, send: Send) -> None:
    """What a value raises as it is shown, the plugin passes over as well."""
    with contextlib.suppress(Exception):
        if (comparison := _find_comparison(plugin.current_test_item)) is not None:
            send((messages.COMPARISON, [serialize.text_of(text) for text in comparison]))


def _find_comparison(item: pytest.Item) -> tuple[str, str, str, str] | None:
    """Its operator, which those of unittest lack, what it had and what it should have had, and a message."""
    if (compared := getattr(item, _ON_ITEM, None)) is not None:
        operator, left, right = compared
        error = _module("diff_tools").EqualsAssertionError(expected=right, actual=left)
        return operator, error.actual, error.expected, error.msg
    store = sys.modules.get("teamcity.jb_local_exc_store")
    error = None if store is None else store.get_exception()
    return None if error is None else ("", error.actual, error.expected, error.msg)


def _module(name: str) -> Any:
    """One of the plugin's own, which it imports late."""
    return importlib.import_module(f"teamcity.{name}")
