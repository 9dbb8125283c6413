"""Results of allure-pytest: what a test did, step by step, and of one that died, that it did.

Its listener writes a test's result when the test's protocol has ended, out here; of steps, parameters and attachments
it was told inside. Files (attachments, and fixtures of the test's own) are written inside, as its folder is bound
through (:mod:`pytest_isolate.keepsakes`). All of this is private to it; seen with 2.16.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_isolate import wider

_BY_US: pytest.StashKey[bool] = pytest.StashKey()  # nothing came of the test


def listener(config: pytest.Config) -> Any:
    """What hears of tests; None where allure writes nothing."""
    return config.pluginmanager.getplugin("allure_listener")


@contextlib.contextmanager
def sent(listener: Any, item: pytest.Item, send: Callable[[object], None]) -> Iterator[None]:
    """Send the test's result; :func:`add` takes it."""
    try:
        yield
    finally:
        if (result := _result(listener, item)) is not None:
            send(("allure", sys.modules["attr"].asdict(result, filter=lambda _, value: value or value is False)))


def add(item: pytest.Item, data: Any) -> None:
    """Complete the result that the listener has of ``item`` by that from inside."""
    theirs = listener(item.config)
    if (result := _result(theirs, item)) is None:
        return
    for name, value in data.items():
        if name != "uuid" and hasattr(result, name):
            setattr(result, name, value)
    for fixture in wider.fixtures(item):  # their records are out here
        if (group := theirs._cache.get(fixture.definition)) is not None:
            theirs.allure_logger.update_group(group, children=result.uuid)


def told(listener: Any, item: pytest.Item, report: pytest.TestReport) -> None:
    """Make the result of a test of which none came: it died, or was not run."""
    result = _result(listener, item)
    if result is None or (result.status is not None and _BY_US not in item.stash):
        return
    if _BY_US not in item.stash:
        item.stash[_BY_US] = True
        _pass_through(listener.pytest_runtest_setup(item))  # names, description, parameters
    if result.status in (None, "passed"):
        result.status = report.outcome
        result.statusDetails = None if report.passed else {"message": _message(report), "trace": report.longreprtext}
    if report.when == "teardown":
        _pass_through(listener.pytest_runtest_teardown(item))  # labels and links


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
