"""pytest's side of the package: hooks, a few lines each, that say what happens and leave how to the modules below.

Loaded in every pytest run of an environment that has the package, so whatever is heavy is imported by the hook that
needs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.linux import atfork, calls  # noqa: F401 - before plugins, conftest files, tests load and patch things
from pytest_isolate.plugin import fixtures, stale_modules
from pytest_isolate.plugin.config import item_specs, options, overlooked, session_options
from pytest_isolate.plugin.fixtures import (  # noqa: F401 - pytest finds fixtures in the plugin's own module
    isolate_network,
    isolate_network_factory,
    isolate_open_port,
    isolated,
)

if TYPE_CHECKING:
    from pytest_isolate.plugin.run.isolation import Isolation

_ISOLATION: pytest.StashKey[Isolation] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    stale_modules.forget()  # this may be a run within a run
    from pytest_isolate.plugin import hookspecs  # noqa: PLC0415 - only here

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before conftest files, pytest's capturing, and plugins that measure
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    if session_options.is_wanted(early_config, early_config.known_args_namespace) and not session_options.is_inside():
        from pytest_isolate.plugin.run import session_sandbox  # noqa: PLC0415 - only then

        session_sandbox.enter(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    settings = options.configure(config)
    if settings.reports:
        from pytest_isolate.plugin.report.run_report.recorder import Recorder  # noqa: PLC0415 - only if it is asked for

        recorder = Recorder(config, settings.reports, worker=hasattr(config, "workerinput"))
        config.pluginmanager.register(recorder, "isolate-report")
    if (asked := settings.baseline) is not None and not (hasattr(config, "workerinput") or config.option.collectonly):
        from pytest_isolate.plugin.report.baseline import recorder as baseline  # noqa: PLC0415 - the same

        baseline.register(config, asked.file, asked.noise, update=asked.update, fails=asked.fails)
    config.stash[fixtures.OPEN_PORTS] = set()
    config.stash[fixtures.KEEPER] = lambda: _isolation(config).keeper()

    def skip_if_asked(lack: Exception) -> None:
        if settings.unsupported == "skip":
            pytest.skip(str(lack))

    config.stash[fixtures.ON_LACK] = skip_if_asked


@pytest.hookimpl(tryfirst=True)  # before tests, xdist's workers, and whatever else should not have the way out
def pytest_sessionstart(session: pytest.Session) -> None:
    if session_options.ENTERED in session.config.stash:
        from pytest_isolate.plugin.run import kept_paths  # noqa: PLC0415 - only then

        kept_paths.leave(session.config)
    if session.config.stash[options.SETTINGS].jobs != 1:
        session.config.stash[fixtures.FIRST_DESCRIPTORS] = fixtures.list_descriptors()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # after all others: plugins and conftest files add markers in this hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    result = yield
    foreign = item_specs.check_items(config, items)
    overlooked.tell(config, items, foreign)
    return result


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [line for line in (session_options.describe(config), _describe_beforehand(config)) if line]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    return _describe_collected(config, items, described=config.stash[options.SETTINGS].everything)


@pytest.hookimpl(tryfirst=True)  # before a worker tells its controller that it has collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """A worker of xdist has no terminal."""
    if hasattr(session.config, "workerinput"):
        from pytest_isolate.plugin.integrations import worker_header  # noqa: PLC0415 - only with xdist

        if worker_header.is_asked(session.config):
            worker_header.tell(session.config, _describe_collected(session.config, session.items, described=False))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Of xdist: when a worker has collected."""
    from pytest_isolate.plugin.integrations import worker_header  # noqa: PLC0415 - only with xdist

    reporter = node.config.pluginmanager.getplugin("terminalreporter")
    for line in worker_header.take(node):
        if reporter is not None:
            reporter.write_line(line)


@pytest.hookimpl(tryfirst=True)  # pytest calls no further plugin after the one that sets the fixture up
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    _look_again(request.config, fixturedef)


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    _look_again(request.config, fixturedef)


class _Protocol:
    """Registered after all other plugins: of hooks with ``tryfirst``, pytest calls the last one first.

    So it comes before plugins that would run the test in this process: one that reruns failures, or forks.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if (spec := item_specs.spec_for(item)) is None:
            _look_again(item.config)
            return None
        ahead = None if nextitem is None else item_specs.spec_for(nextitem)
        _isolation(item.config).run_protocol(item, nextitem, spec, ahead)
        return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Only the child calls this; out here, another plugin is about to run the test itself."""
    if fixtures.ISOLATED not in item.config.stash and item_specs.spec_for(item) is not None:
        item_specs.end_run(
            item.config,
            f"{item.nodeid} would run outside of its sandbox: another plugin or a conftest.py file runs tests itself, "
            "past pytest-isolate-ns. Leave that one out (-p no:NAME), or mark the test no_isolate.",
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    item_specs.check_late_markers(item)


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest-cov's, which ends the measurement
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    manager = session.config.pluginmanager
    if session.config.stash[options.SETTINGS].jobs != 1:
        session.config.stash[fixtures.FILTERS] = [*warnings.filters]
    if not manager.hasplugin("isolate-protocol"):  # a plugin may run the loop again
        manager.register(_Protocol(), "isolate-protocol")
        if (isolation := session.config.stash.get(_ISOLATION, None)) is not None:  # it was made for the header
            isolation.threads.note_collected()
    try:
        return (yield)
    finally:
        if (isolation := session.config.stash.get(_ISOLATION, None)) is not None:
            isolation.finish()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for category in terminalreporter.stats.values() for report in category if _is_isolated(report)]
    if config.stash[options.SETTINGS].github:
        from pytest_isolate.plugin.report import github  # noqa: PLC0415 - there only

        github.tell(terminalreporter, config, reports, everything=config.stash[options.SETTINGS].everything)
    if not reports:
        return
    from pytest_isolate.plugin.integrations import imports  # noqa: PLC0415 - not before the end
    from pytest_isolate.plugin.report import summary  # noqa: PLC0415

    rows = config.stash[options.SETTINGS].usage_rows
    if rows is None:
        rows = 0 if terminalreporter.verbosity < 0 else summary.ROWS
    imported, alone = imports.imported(config), config.stash.get(fixtures.ALONE, {})
    for title, lines in summary.sections(reports, rows=rows, imported=imported, alone=alone):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    if (isolation := config.stash.get(_ISOLATION, None)) is not None:
        isolation.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of xdist: before the controller starts a worker."""
    from pytest_isolate.plugin.integrations import worker_header, xdist  # noqa: PLC0415 - only with xdist
    from pytest_isolate.session.names import new_name  # noqa: PLC0415

    xdist.give_session_name(node, new_name())
    worker_header.ask(node)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Of xdist: when a worker has ended."""
    from pytest_isolate.plugin.integrations import imports, xdist  # noqa: PLC0415 - only with xdist

    xdist.raise_errors(node)
    imports.add(node.config, xdist.take_imports(node))
    overlooked.warn(node.config, xdist.take_warnings(node))


def _isolation(config: pytest.Config) -> Isolation:
    if (isolation := config.stash.get(_ISOLATION, None)) is None:
        stale_modules.forget()  # of a run within this one
        from pytest_isolate.plugin.run.isolation import Isolation  # noqa: PLC0415 - only if a test is isolated

        config.stash[_ISOLATION] = isolation = Isolation(config)
    return isolation


def _is_isolated(report: object) -> bool:
    """Whether figures of a sandbox travel with the report, which the controller of xdist has as well."""
    return any(str(name).startswith("isolate_") for name, _ in getattr(report, "user_properties", None) or ())


def _describe_beforehand(config: pytest.Config) -> str | None:
    """Before collection nobody knows whether a test is isolated; the host is probed here only if that is certain."""
    settings = config.stash[options.SETTINGS]
    if settings.off:
        return "isolate: off (--isolate-off), all tests run in pytest's own process"
    if not settings.everything or config.option.collectonly:
        return None
    if _is_controller(config):
        return "isolate: all tests, in sandboxes of each xdist worker"
    return f"isolate: {_isolation(config).describe()}"


def _describe_collected(config: pytest.Config, items: list[pytest.Item], *, described: bool) -> list[str]:
    """Lines for the header that only the tests decide. :param described: the host has been described already."""
    if overlooked.is_asked_in_vain(config, items):
        words = config.stash[options.SETTINGS].asked_words()
        return [f"isolate: NOT in force, as no test is isolated (see --isolate-all): {words}"]
    specs = {spec for item in items if (spec := item_specs.spec_for(item))}
    if config.option.collectonly or not specs or _is_controller(config):
        return []
    lines = [] if described else [f"isolate: {_isolation(config).describe()}"]
    return [*lines, *_isolation(config).notes(items[0], specs)]


def _is_controller(config: pytest.Config) -> bool:
    from pytest_isolate.plugin.integrations import xdist  # noqa: PLC0415 - only if a test is isolated

    return xdist.is_controller(config)


def _look_again(config: pytest.Config, fixturedef: pytest.FixtureDef[Any] | None = None) -> None:
    """A fixture that is shared by tests, or a test in this process, may start or end a server."""
    if (fixturedef is None or fixturedef.scope != "function") and _ISOLATION in config.stash:
        config.stash[_ISOLATION].look_again()
