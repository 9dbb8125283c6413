"""What single other plugins keep in their own memory while a test runs, and so would lose with the sandbox.

Found by what their objects have, not by version. All of it is private to them; where it looks otherwise than below,
nothing crosses, as with any plugin that is not named here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate import allure, plugins, reports, syrupy

if TYPE_CHECKING:
    from pytest_isolate.forwarding import Forwarder

#: Fixtures of other plugins that each sandbox sets up for itself, as tests talk to objects that a thread of theirs has:
#: pytest-httpserver's server, which is told in each test what to answer.
FIXTURES_INSIDE = ("make_httpserver",)
#: pytest-dependency keeps in its ``pytest_runtest_makereport`` how tests ended, for those that depend on them.
MAKEREPORT_OUTSIDE = ("dependency", "pytest_dependency")

_BDD = "pytest_bdd.reporting"
_SCENARIO: pytest.StashKey[Any] = pytest.StashKey()
_CONTROLLER: pytest.StashKey[list[int]] = pytest.StashKey()  #: descriptors

_IDENTITY = ("name", "fullname", "group", "param", "params", "extra_info")


def first_steps(item: pytest.Item, attempts: int) -> Iterator[Callable[[], None]]:
    """What is to be done in the child before the test; to be asked before the fork.

    :param attempts: see :func:`pytest_isolate.inside.prepared`.
    """
    if descriptors := _to_controller(item.config):
        yield functools.partial(_give_up, descriptors)
    if attempts:
        yield functools.partial(_lower_reruns, item, attempts)


def _to_controller(config: pytest.Config) -> list[int]:
    """An xdist worker's channel to the controller, of a local one, or of one at the other end of a socket.

    Seen with execnet 2.1.
    """
    if not hasattr(config, "workerinput"):
        return []
    if _CONTROLLER not in config.stash:
        plugins = config.pluginmanager.get_plugins()
        ios = [getattr(getattr(getattr(plugin, "channel", None), "gateway", None), "_io", None) for plugin in plugins]
        files = [getattr(io, name, None) for io in ios for name in ("infile", "outfile", "sock")]
        config.stash[_CONTROLLER] = [file.fileno() for file in files if file is not None]
    return config.stash[_CONTROLLER]


def _give_up(descriptors: list[int]) -> None:
    """What a test writes there would break the channel. They stay taken, as execnet's objects live on."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def forwarders(item: pytest.Item) -> Iterator[Forwarder]:
    """What is to be round the protocol inside, to send what the plugins that are there keep; :func:`add` takes it."""
    config = item.config
    if hasattr(config, "_benchmarksession"):
        yield functools.partial(_sent_benchmarks, config)
    if hasattr(config, "_syrupy"):
        yield functools.partial(syrupy.sent, config)
    if (listener := allure.listener(config)) is not None:
        yield functools.partial(allure.sent, listener, item)
    if (retry := _retry(config)) is not None:
        yield functools.partial(_sent_retries, retry)
    if (scenarios := getattr(sys.modules.get(_BDD), "scenario_reports_registry", None)) is not None:
        yield functools.partial(_sent_scenario, scenarios, item)


def add(item: pytest.Item, kind: str, data: Any) -> bool:
    """Give a plugin of pytest's process what one of :func:`forwarders` sent; whether it is of such a kind."""
    match kind:
        case "benchmark":
            _add_benchmark(item.config, *data)
        case "snapshots":
            syrupy.add(item, *data)
        case "allure":
            allure.add(item, data)
        case "retries":
            _retry(item.config).retry_manager.reporter.stream.write(str(data))
        case "scenario":
            item.stash[_SCENARIO] = data
        case _:
            return False
    return True


def outcomes(config: pytest.Config) -> set[str]:
    """What a report may have as outcome beside pytest's own."""
    retry = _retry(config)
    return {"rerun"} if retry is None else {"rerun", str(retry.Defaults.RETRY_OUTCOME)}  # the first: rerunfailures'


def told(item: pytest.Item, report: pytest.TestReport, outside: set[object]) -> None:
    """Let those plugins know of a report that take it where it is made, inside, and ask out here what came before.

    :param outside: plugins whose ``pytest_runtest_makereport`` is called.
    """
    if hasattr(report, "context"):  # of a sub-test
        return
    if outside:
        call = reports.call_of(report.when, _outcome, report=report)
        plugins.told_again(item, outside, call, _twin(report))
    if (retry := _retry(item.config)) is not None and report.when in retry.stages:
        retry.retry_manager.record_node_stats(report)
    if _SCENARIO in item.stash and report.when != "setup":
        bdd = sys.modules[_BDD]
        bdd.test_report_context_registry[report] = bdd.ReportContext(scenario=item.stash[_SCENARIO], name=item.name)
    if (listener := allure.listener(item.config)) is not None:
        allure.told(listener, item, report)


def _twin(report: pytest.TestReport) -> pytest.TestReport:
    """A copy that can be added to: what the hooks add has been added inside."""
    twin = copy.copy(report)
    for name, value in vars(report).items():
        if isinstance(value, list):
            setattr(twin, name, [*value])
    return twin


def _outcome(report: pytest.TestReport) -> None:
    """End as the phase of a report did."""
    if report.failed or hasattr(report, "wasxfail"):
        pytest.fail(report.longreprtext, pytrace=False)
    if report.skipped:
        pytest.skip(report.longreprtext)


@contextlib.contextmanager
def _sent_benchmarks(config: pytest.Config, send: Callable[[object], None]) -> Iterator[None]:
    """What pytest-benchmark measured. Seen with 5.3."""
    found: list[Any] = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
    before = len(found)
    try:
        yield
    finally:
        for bench in found[before:]:
            options = {key: getattr(value, "__name__", value) for key, value in bench.options.items()}
            about = {name: getattr(bench, name) for name in _IDENTITY}
            about |= {"has_error": bool(bench.has_error), "options": options}
            send(("benchmark", [reports.plain(about), bench.iterations, list(map(float, bench.stats.data))]))


def _add_benchmark(config: pytest.Config, about: Any, iterations: Any, rounds: Any) -> None:
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


@contextlib.contextmanager
def _sent_scenario(scenarios: Any, item: pytest.Item, send: Callable[[object], None]) -> Iterator[None]:
    """The steps of a scenario: pytest-bdd's reporters look for them beside the report; before 8, in it. Seen: 9.0."""
    try:
        yield
    finally:
        if (scenario := scenarios.get(item)) is not None:
            send(("scenario", reports.plain(scenario.serialize())))


@contextlib.contextmanager
def _sent_retries(retry: Any, send: Callable[[object], None]) -> Iterator[None]:
    """What pytest-retry will say at the end. Seen with 1.7; from an xdist worker it goes by a socket anyway."""
    stream = getattr(retry.retry_manager.reporter, "stream", None)
    before = 0 if stream is None else stream.tell()
    try:
        yield
    finally:
        if stream is not None and (text := stream.getvalue()[before:]):
            send(("retries", text))


def _retry(config: pytest.Config) -> Any:
    manager = config.pluginmanager
    plugin = manager.getplugin("pytest-retry") or manager.getplugin("pytest_retry.retry_plugin")
    known = hasattr(plugin, "stages") and hasattr(getattr(plugin, "Defaults", None), "RETRY_OUTCOME")
    return plugin if known else None


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


def _lower_reruns(item: pytest.Item, attempts: int) -> None:
    """Inside, after attempts that died outside of pytest-rerunfailures' sight: count them."""
    marker = item.get_closest_marker("flaky")
    delay = {} if marker is None else {name: value for name, value in marker.kwargs.items() if name != "reruns"}
    item.add_marker(pytest.mark.flaky(**delay, reruns=reruns_left(item, attempts) - 1), append=False)


def _rerunfailures(item: pytest.Item) -> Any:
    manager = item.config.pluginmanager
    return manager.getplugin("rerunfailures") or manager.getplugin("pytest_rerunfailures")
