"""What single other plugins keep in their own memory while a test runs, and so would lose with the sandbox.

Found by what their objects have, not by version. All of it is private to them; where it looks otherwise than below,
nothing crosses, as with any plugin that is not named here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate import reports

#: Fixtures of other plugins that each sandbox sets up for itself, as tests talk to objects that a thread of theirs has:
#: pytest-httpserver's server, which is told in each test what to answer.
FIXTURES_INSIDE = ("make_httpserver",)

_IDENTITY = ("name", "fullname", "group", "param", "params", "extra_info")


def leave_controller(config: pytest.Config) -> None:
    """In the child: give up an xdist worker's channel to the controller, which what a test writes there would break.

    The descriptors stay taken, as execnet's objects live on. Seen with execnet 2.1.
    """
    if not hasattr(config, "workerinput"):
        return
    for plugin in config.pluginmanager.get_plugins():
        io = getattr(getattr(getattr(plugin, "channel", None), "gateway", None), "_io", None)
        for name in ("infile", "outfile", "sock"):  # of a local worker, or of one at the other end of a socket
            if (file := getattr(io, name, None)) is not None:
                null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(null, file.fileno(), inheritable=False)
                os.close(null)


@contextlib.contextmanager
def sent_benchmarks(config: pytest.Config, send: Callable[[object], None]) -> Iterator[None]:
    """Send what pytest-benchmark measured; :func:`add_benchmark` takes it. Seen with 5.3."""
    found: list[Any] = getattr(getattr(config, "_benchmarksession", None), "benchmarks", [])
    before = len(found)
    try:
        yield
    finally:
        for bench in found[before:]:
            options = {key: getattr(value, "__name__", value) for key, value in bench.options.items()}
            about = {name: getattr(bench, name) for name in _IDENTITY}
            about |= {"has_error": bool(bench.has_error), "options": options}
            send(("benchmark", [reports.plain(about), bench.iterations, list(map(float, bench.stats.data))]))


def add_benchmark(config: pytest.Config, about: Any, iterations: Any, rounds: Any) -> None:
    """Give pytest-benchmark's session what was measured inside.

    :param rounds: seconds of each round, by iteration.
    """
    fixture = SimpleNamespace(**{**dict.fromkeys(_IDENTITY), "has_error": False, **about}, cprofile_stats=None)
    bench = sys.modules["pytest_benchmark.stats"].Metadata(
        fixture, iterations=int(iterations), options=dict(about["options"])
    )
    for seconds in rounds:
        bench.stats.update(float(seconds))
    config._benchmarksession.benchmarks.append(bench)  # type: ignore[attr-defined]


def reruns_left(item: pytest.Item, attempts: int) -> int:
    """How often pytest-rerunfailures would run ``item`` again after ``attempts``; 0 without it. Seen with 16.7.

    It runs inside, and so not when the sandbox has died. A choice by the text of the exception (``--only-rerun``) is
    never met then, as there is none.
    """
    plugin, config = _rerunfailures(item), item.config
    chosen = any(config.getoption(name, None) for name in ("only_rerun", "rerun_except"))
    if plugin is None or chosen:
        return 0
    return max(0, (plugin.get_reruns_count(item) or 0) + 1 - attempts)


def wait_before_rerun(item: pytest.Item) -> None:
    """The delay that the user has asked for."""
    if (plugin := _rerunfailures(item)) is not None:
        time.sleep(plugin.get_reruns_delay(item))


def lower_reruns(item: pytest.Item, attempts: int) -> None:
    """Inside, after attempts that died outside of pytest-rerunfailures' sight: count them."""
    if attempts:
        marker = item.get_closest_marker("flaky")
        delay = {} if marker is None else {name: value for name, value in marker.kwargs.items() if name != "reruns"}
        item.add_marker(pytest.mark.flaky(**delay, reruns=reruns_left(item, attempts) - 1), append=False)


def _rerunfailures(item: pytest.Item) -> Any:
    manager = item.config.pluginmanager
    return manager.getplugin("rerunfailures") or manager.getplugin("pytest_rerunfailures")
