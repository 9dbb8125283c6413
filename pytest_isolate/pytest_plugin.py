"""pytest's side of the package: hooks, a few lines each, that say what happens and leave how to the modules below.

Loaded in every pytest run of an environment that has the package, so whatever is heavy is imported by the hook that
needs it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate import options, testing
from pytest_isolate.testing import (  # noqa: F401 - fixtures
    isolate_network,
    isolate_network_factory,
    isolate_open_port,
    isolated,
)

if TYPE_CHECKING:
    from pytest_isolate.items import Isolation

_ISOLATION: pytest.StashKey[Isolation] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_isolate import hookspecs  # noqa: PLC0415 - only here

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    settings = options.configure(config)
    config.stash[testing.OPENED] = set()
    config.stash[testing.KEEPER] = lambda: _isolation(config).keeper()
    config.stash[testing.REFUSED] = lambda lack: settings.unsupported == "skip" and pytest.skip(str(lack))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # after all others: plugins and conftest files add markers in this hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    result = yield
    options.check_items(config, items)
    return result


def pytest_report_header(config: pytest.Config) -> str | None:
    """Before collection nobody knows whether a test is isolated; the host is probed here only if that is certain."""
    settings = config.stash[options.SETTINGS]
    if settings.off:
        return "isolate: off (--isolate-off), all tests run in pytest's own process"
    if not settings.everything or config.option.collectonly:
        return None
    if config.pluginmanager.hasplugin("dsession"):  # an xdist controller runs no tests
        return "isolate: all tests, in sandboxes of each xdist worker"
    return f"isolate: {_isolation(config).describe()}"


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str] | None:
    settings = config.stash[options.SETTINGS]
    specs = {spec for item in items if (spec := options.spec_for(item))}
    if config.option.collectonly or not specs or config.pluginmanager.hasplugin("dsession"):
        return None
    lines = [] if settings.everything else [f"isolate: {_isolation(config).describe()}"]
    return [*lines, *_isolation(config).notes(items[0], specs)]


@pytest.hookimpl(tryfirst=True)  # whoever does the set-up ends the calls
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    _look_again(request.config, fixturedef)


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    _look_again(request.config, fixturedef)


class _Protocol:
    """Registered when all others are there, as of those that want to be first the last one is.

    Before plugins that would run the test in this process: one that reruns failures, or forks.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if (spec := options.spec_for(item)) is None:
            _look_again(item.config)
            return None
        ahead = None if nextitem is None else options.spec_for(nextitem)
        _isolation(item.config).protocol(item, nextitem, spec, ahead)
        return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Called inside only; out here, another plugin is about to run the test, whatever we were told."""
    if testing.ISOLATED not in item.config.stash and options.spec_for(item) is not None:
        options.end_run(
            item.config,
            f"{item.nodeid} would run outside of its sandbox: another plugin or a conftest.py file runs tests itself, "
            "past pytest-isolate-ns. Leave that one out (-p no:NAME), or mark the test no_isolate.",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    options.check_late_markers(item)


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest-cov's, which ends the measurement
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    manager = session.config.pluginmanager
    if not manager.hasplugin("isolate-protocol"):  # a plugin may run the loop again
        manager.register(_Protocol(), "isolate-protocol")
    try:
        return (yield)
    finally:
        if (isolation := session.config.stash.get(_ISOLATION, None)) is not None:
            isolation.hand_over_coverage()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for category in terminalreporter.stats.values() for report in category]
    if not reports:
        return
    from pytest_isolate import summary  # noqa: PLC0415 - not before the end

    for title, lines in summary.sections(reports, rows=config.stash[options.SETTINGS].usage_rows):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    if (isolation := config.stash.get(_ISOLATION, None)) is not None:
        isolation.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of xdist: before the controller starts a worker."""
    from pytest_isolate.cgroups.names import session_name  # noqa: PLC0415 - only with xdist
    from pytest_isolate.keeping import SESSION_INPUT  # noqa: PLC0415

    node.workerinput[SESSION_INPUT] = session_name()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Of xdist: when a worker has ended."""
    options.raise_worker_errors(node)


def _isolation(config: pytest.Config) -> Isolation:
    if (isolation := config.stash.get(_ISOLATION, None)) is None:
        from pytest_isolate.items import Isolation  # noqa: PLC0415 - only if a test is isolated

        config.stash[_ISOLATION] = isolation = Isolation(config)
    return isolation


def _look_again(config: pytest.Config, fixturedef: pytest.FixtureDef[Any] | None = None) -> None:
    """A fixture that is shared by tests, or a test in this process, may start or end a server."""
    if (fixturedef is None or fixturedef.scope != "function") and _ISOLATION in config.stash:
        config.stash[_ISOLATION].look_again()
