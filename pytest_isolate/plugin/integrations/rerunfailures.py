"""pytest-rerunfailures: it runs a test again inside, and so not when the sandbox has died. Seen with 16.7."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin.integrations import xdist
from pytest_isolate.plugin.integrations.integration import Integration


class RerunFailures(Integration):
    """Inside, it is to know of the attempts that it has not seen."""

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], None] | None:
        """Leave it as many reruns as are left."""
        return functools.partial(_lower_reruns, item, attempts) if attempts else None

    def stands_alone(self, item: pytest.Item) -> bool:
        """The plugin's counts are kept by xdist's controller, to which all tests would talk by one socket; or here."""
        if not _reruns_left(item, 0):
            return False
        return xdist.is_worker(self.config) or _most_in_all(self.config) is not None

    def outcomes(self) -> tuple[str, ...]:
        """The outcome of an attempt that is followed by another."""
        return ("rerun",)

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Count for ``--max-suite-reruns``: an attempt made inside was counted in the child's memory only."""
        most, outcome = _most_in_all(self.config), str(report.outcome)
        if most is not None and outcome == "rerun" and not xdist.is_worker(self.config):
            _counts(self.config).try_increment_suite_reruns(most)


def ports(config: pytest.Config) -> set[int]:
    """Where the plugin's server of counts listens, for xdist's workers: no test's affair."""
    port = getattr(config, "workerinput", {}).get("sock_port", getattr(_counts(config), "sock_port", None))
    return set() if port is None else {port}


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
        self._another = _reruns_left(self._item, self._made) > 0 and self._may_go_on()
        return self._another

    def _may_go_on(self) -> bool:
        """Whether ``--max-suite-reruns`` allows another. What is made here is counted when its reports are logged."""
        config = self._item.config
        if (most := _most_in_all(config)) is None:
            return True
        if xdist.is_worker(config):
            return bool(_counts(config).try_increment_suite_reruns(most))
        return bool(_counts(config).get_suite_reruns() < most)


def _reruns_left(item: pytest.Item, attempts: int) -> int:
    """How often pytest-rerunfailures would run ``item`` again after ``attempts``; 0 without it.

    A choice by the text of the exception (``--only-rerun``) is never met, as a test that died has none.
    """
    plugin, config = _rerunfailures(item), item.config
    chosen = any(config.getoption(name, None) for name in ("only_rerun", "rerun_except"))
    if plugin is None or chosen:
        return 0
    return max(0, (plugin.get_reruns_count(item) or 0) + 1 - attempts)


def _most_in_all(config: pytest.Config) -> int | None:
    """``--max-suite-reruns``, which older versions do not have."""
    most: int | None = getattr(config.option, "max_suite_reruns", None)
    return most


def _counts(config: pytest.Config) -> Any:
    """Private: ``config.failures_db``, 16.7."""
    return getattr(config, "failures_db", None)


def _lower_reruns(item: pytest.Item, attempts: int) -> None:
    marker = item.get_closest_marker("flaky")
    delay = {} if marker is None else {name: value for name, value in marker.kwargs.items() if name != "reruns"}
    item.add_marker(pytest.mark.flaky(**delay, reruns=_reruns_left(item, attempts) - 1), append=False)


def _rerunfailures(item: pytest.Item) -> Any:
    manager = item.config.pluginmanager
    return manager.getplugin("rerunfailures") or manager.getplugin("pytest_rerunfailures")
