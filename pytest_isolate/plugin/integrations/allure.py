"""Results of allure-pytest: what a test did, step by step, and of one that died, that it did.

Its listener writes a test's result when the test's protocol has ended, out here; of steps, parameters and attachments
it hears inside. Files (attachments, and fixtures of the test's own) are written inside, as its folder is bound through.
All of this is private to it; seen with 2.16.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_isolate.plugin import higher_scoped_fixtures, messages
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send

_BY_US: pytest.StashKey[bool] = pytest.StashKey()  # nothing came of the test


class Allure(Integration):
    """Its listener is a plugin, which is not there where allure writes nothing."""

    kinds = (messages.ALLURE,)

    def folders(self, item: pytest.Item) -> list[str]:
        """The folder of the results, which allure has made."""
        return [] if self._listener is None else [os.path.abspath(str(self.config.option.allure_report_dir))]

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send the test's result."""
        listener = self._listener
        return None if listener is None else functools.partial(_send_result, listener, item)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Complete the result that the listener has of ``item`` by that from inside."""
        listener = self._listener
        if (result := _result(listener, item)) is None:
            return
        for name, value in data.items():
            if name != "uuid" and hasattr(result, name):
                setattr(result, name, value)
        for fixture in higher_scoped_fixtures.find_fixtures(item):  # their records are out here
            if (group := listener._cache.get(fixture.definition)) is not None:
                listener.allure_logger.update_group(group, children=result.uuid)

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Make the result of a test that sent none: it died, or was not run."""
        listener = self._listener
        result = None if listener is None else _result(listener, item)
        if result is None or (result.status is not None and _BY_US not in item.stash):
            return
        if _BY_US not in item.stash:
            item.stash[_BY_US] = True
            _pass_through(listener.pytest_runtest_setup(item))  # names, description, parameters
        if result.status in (None, "passed"):
            result.status = report.outcome
            result.statusDetails = (
                None if report.passed else {"message": _message(report), "trace": report.longreprtext}
            )
        if report.when == "teardown":
            _pass_through(listener.pytest_runtest_teardown(item))  # labels and links

    @functools.cached_property
    def _listener(self) -> Any:
        return self.config.pluginmanager.getplugin("allure_listener")


@contextlib.contextmanager
def _send_result(listener: Any, item: pytest.Item, send: Send) -> Iterator[None]:
    try:
        yield
    finally:
        if (result := _result(listener, item)) is not None:
            fields = sys.modules["attr"].asdict(result, filter=lambda _, value: value or value is False)
            send((messages.ALLURE, fields))


def _result(listener: Any, item: pytest.Item) -> Any:
    """None if it has been written already, as that of a test which is run again."""
    uuid = listener._cache.get(item.nodeid)
    return None if uuid is None else listener.allure_logger.get_test(uuid)


def _pass_through(wrapper: Iterator[None]) -> None:
    """Run a hook's wrapper with nothing within."""
    for _ in wrapper:
        pass


def _message(report: pytest.TestReport) -> str:
    match report.longrepr:
        case (_, _, str(reason)):
            return reason
        case longrepr:
            return str(getattr(getattr(longrepr, "reprcrash", None), "message", longrepr))
