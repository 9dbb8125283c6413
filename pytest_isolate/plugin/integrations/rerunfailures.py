"""pytest-rerunfailures: it runs a test again inside, and so not when the sandbox has died. Seen with 16.7."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin.integrations.integration import Integration


class RerunFailures(Integration):
    """Inside, it is to know of the attempts that it has not seen."""

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], None] | None:
        """Leave it as many reruns as are left."""
        return functools.partial(_lower_reruns, item, attempts) if attempts else None

    def outcomes(self) -> tuple[str, ...]:
        """The outcome of an attempt that is followed by another."""
        return ("rerun",)


class Attempts:
    """The attempts to run a test: one, and another each time that a sandbox died and the plugin has reruns left."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._made = 0
        self._another = True

    def __iter__(self) -> Iterator[int]:
        """How many attempts were made before this one."""
        while self._another:
            if self._made and (plugin := _rerunfailures(self._item)) is not None:
                calls.sleep(plugin.get_reruns_delay(self._item))
            self._another = False
            yield self._made

    def ask_for_another(self, made: int) -> bool:
        """Ask for one more attempt, as the sandbox died; whether the plugin has a rerun left.

        :param made: how many attempts were made in that sandbox.
        """
        self._made += made
        self._another = _reruns_left(self._item, self._made) > 0
        return self._another


def _reruns_left(item: pytest.Item, attempts: int) -> int:
    """How often pytest-rerunfailures would run ``item`` again after ``attempts``; 0 without it.

    A choice by the text of the exception (``--only-rerun``) is never met, as a test that died has none.
    """
    plugin, config = _rerunfailures(item), item.config
    chosen = any(config.getoption(name, None) for name in ("only_rerun", "rerun_except"))
    if plugin is None or chosen:
        return 0
    return max(0, (plugin.get_reruns_count(item) or 0) + 1 - attempts)


def _lower_reruns(item: pytest.Item, attempts: int) -> None:
    marker = item.get_closest_marker("flaky")
    delay = {} if marker is None else {name: value for name, value in marker.kwargs.items() if name != "reruns"}
    item.add_marker(pytest.mark.flaky(**delay, reruns=_reruns_left(item, attempts) - 1), append=False)


def _rerunfailures(item: pytest.Item) -> Any:
    manager = item.config.pluginmanager
    return manager.getplugin("rerunfailures") or manager.getplugin("pytest_rerunfailures")
