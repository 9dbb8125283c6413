"""The half of an isolated test that runs in the forked child: the item's own protocol, reports sent as they come."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from posix import _exit, getpid  # not os's, which a test may have replaced
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol  # no public way runs the three phases of an item; the same in 8.0, 9.0, 9.2

from pytest_isolate import frames, measuring, neighbours, plugins, reports, testing, wider

if TYPE_CHECKING:
    from pytest_isolate.guest import Line
    from pytest_isolate.measuring import Ongoing
    from pytest_isolate.overhearing import Overheard
    from pytest_isolate.wider import Wider

Send = Callable[[object], None]

#: Hooks that tell plugins how a test goes.
_TOLD = ("pytest_runtest_logstart", "pytest_runtest_logreport", "pytest_runtest_logfinish")


def run(
    item: pytest.Item,
    failure: BaseException | None,
    attempts: int,
    send: Line,
    *,
    overheard: Overheard | None,
    apart: Iterable[Wider],
    coverage: Ongoing | None,
    messenger: Messenger,
) -> None:
    """Run ``item`` and send what happens as pairs of a kind and its data.

    ``failure`` is what the set-up of its wider-scoped fixtures raised outside; it is raised anew where they would have
    been set up, so that it falls in the same place among the hooks of other plugins as in a plain run. ``attempts``:
    how many there have been, in sandboxes that died. ``overheard`` listens to threads that are not here. ``apart`` are
    wider-scoped fixtures that are set up here. ``coverage`` is the measurement in progress, for
    :func:`pytest_isolate.measuring.forwarded`. ``messenger`` has been registered.
    """
    session, config = item.session, item.config
    if overheard is not None:
        overheard.leave()
    for fixture in apart:
        wider.forget(fixture)
    _disown(item)
    neighbours.leave_controller(config)
    messenger.take_over(send)
    config.stash[testing.ISOLATED] = testing.Isolated(send.spec, send.degraded, send.usage)
    _rearm_faulthandler(config)
    neighbours.lower_reruns(item, attempts)
    if failure is not None:
        _replay(item, failure)
    before = session.shouldstop, session.shouldfail
    try:
        with (
            _recorded_warnings(config, send),
            measuring.forwarded(coverage, send),
            _forwarded_junit(config, send),
            _counted_subtests(config, send),
            contextlib.ExitStack() as others,
        ):
            for sender in neighbours.senders(item, send):
                others.enter_context(sender)
            _protocol(item)
    except pytest.exit.Exception as end:
        _finish(item)
        send(("exit", [str(end.msg), end.returncode]))
    except KeyboardInterrupt as end:
        _finish(item)
        send(("interrupt", [[str(argument) for argument in end.args], frames.places(end)]))
    except BaseException:  # noqa: BLE001 - a plugin's hook broke; the parent tells
        send(("broken", traceback.format_exc()))
    for name, old in zip(("shouldstop", "shouldfail"), before, strict=True):
        if (new := getattr(session, name)) != old:
            send((name, new if isinstance(new, bool) else str(new)))


def _protocol(item: pytest.Item) -> None:
    """Run the protocol of an item, pytest's or that of a plugin which has one instead.

    There is no next item: whatever was set up in this process is torn down in it, wider-scoped fixtures asked for
    dynamically too.
    """
    for protocol in plugins.protocols(item):
        if protocol() is not None:
            return
    runtestprotocol(item, nextitem=None)


def _disown(item: pytest.Item) -> None:
    """Leave the clean-up of what was set up outside to the process that did it.

    Private: ``Session._setupstate.stack``, a dict of node to (finalizers, exception); the same in 8.0, 9.0, 9.2.
    """
    stack = item.session._setupstate.stack
    stack.pop(item, None)
    for finalizers, _ in stack.values():
        finalizers.clear()


class Messenger:
    """The plugin that tells the parent of each report, and when a debugger asks for somebody.

    Registered before the first fork, and idle in the parent: registering takes pluggy longer than an empty test does.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._line: Line | None = None
        self._own: dict[str, list[object]] = {}  # our implementations of the hooks
        self._others: list[object] = []
        self._owner = 0
        self._starts = 0

    def register(self) -> None:
        """In the parent."""
        manager = self._config.pluginmanager
        manager.register(self, "isolate-messenger")
        others = [plugin for plugin in manager.get_plugins() if plugin is not self]
        self._own = {name: [*manager.subset_hook_caller(name, others)._hookimpls] for name in _TOLD}

    def take_over(self, line: Line) -> None:
        """Let each logged report go to the parent instead of to the plugins of this process.

        Whoever is told of a report here (terminal, junitxml, xdist's worker, which has the controller's socket) would
        be told twice. Proxies of ``item.ihook`` look into the caller's list each time. Private:
        ``HookCaller._hookimpls``, pluggy 1.3 to 1.7.
        """
        self._line, self._owner = line, getpid()
        for name in _TOLD:
            caller: Any = getattr(self._config.hook, name)
            self._others.append(caller._hookimpls)  # kept: to forget them would write to, and so copy, a page for each
            caller._hookimpls = self._own[name]

    @pytest.hookimpl
    def pytest_runtest_logstart(self) -> None:
        """Inside, only the protocol of another plugin starts a test, and once more if it tries the test again."""
        if self._line is not None:
            self._starts += 1
            if self._starts > 1:
                self._line(("again", None))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._line is None:
            return
        if getpid() != self._owner:  # the test forked, and its child came out of the test function
            _exit(1)
        self._line(("report", reports.pack(self._config, report)))

    @pytest.hookimpl
    def pytest_enter_pdb(self) -> None:
        """Be it by --pdb, --trace or ``breakpoint()``."""
        if self._line is not None:
            self._line.attended()


@contextlib.contextmanager
def _forwarded_junit(config: pytest.Config, send: Send) -> Iterator[None]:
    """Send what ``record_testsuite_property`` and ``record_xml_attribute`` record, which reports do not carry.

    Private: ``_pytest.junitxml``, the same in 8.0, 9.0, 9.2.
    """
    plugin = config.pluginmanager.getplugin("junitxml")
    xml: Any = None if plugin is None else config.stash.get(plugin.xml_key, None)
    if xml is None:
        yield
        return
    before, reporter_of = len(xml.global_properties), xml.node_reporter

    def node_reporter(report: object) -> object:
        reporter = reporter_of(report)
        reporter.add_attribute = lambda name, value: send(("xml_attribute", [str(name), reports.plain(value)]))
        return reporter

    xml.node_reporter = node_reporter
    try:
        yield
    finally:  # by the difference: the fixture is of session scope and has the method already
        for name, value in xml.global_properties[before:]:
            send(("suite_property", [str(name), reports.plain(value)]))


@contextlib.contextmanager
def _counted_subtests(config: pytest.Config, send: Send) -> Iterator[None]:
    """Send how many sub-tests failed, which makes the test itself fail where its report is logged.

    Private: 9.0 counts by ``nodeid``, 9.2 by ``id``; 8.0 has no sub-tests. Those of unittest are not counted.
    """
    key = getattr(config.pluginmanager.getplugin("subtests"), "failed_subtests_key", None)
    before = 0 if key is None else sum(config.stash[key].values())
    try:
        yield
    finally:
        if key is not None and (failed := sum(config.stash[key].values()) - before):
            send(("failed_subtests", failed))


def _rearm_faulthandler(config: pytest.Config) -> None:
    """Start pytest's ``faulthandler_timeout`` anew: its timer is a thread, and threads do not survive a fork."""
    plugin = config.pluginmanager.getplugin("faulthandler")
    seconds = float(config.getini("faulthandler_timeout") or 0) if plugin is not None else 0.0
    if seconds > 0:
        import faulthandler  # noqa: PLC0415 - pytest loads it late as well

        descriptor = config.stash[plugin.fault_handler_stderr_fd_key]
        try:
            leave = bool(config.getini("faulthandler_exit_on_timeout"))
        except ValueError:  # older versions of pytest do not know it
            leave = False
        faulthandler.dump_traceback_later(seconds, file=descriptor, exit=leave)


def _replay(item: pytest.Item, failure: BaseException) -> None:
    """Raise ``failure`` where the item's set-up asks for its fixtures.

    Not all failures would come again by themselves: pytest keeps those of a fixture's set-up, but not of the tear-down
    of a fixture whose parameter changed. Private: ``TopRequest._fillfixtures``, what the set-up of functions,
    unittest's and doctests calls; 8.0, 9.0, 9.2.
    """
    frames = failure.__traceback__

    def fill() -> NoReturn:
        __tracebackhide__ = True
        raise failure.with_traceback(frames)

    item._request._fillfixtures = fill  # type: ignore[attr-defined]


@contextlib.contextmanager
def _recorded_warnings(config: pytest.Config, send: Send) -> Iterator[None]:
    """Send what pytest would have recorded; the filters are in force already, from its wrapper round the protocol."""
    if not config.pluginmanager.hasplugin("warnings"):
        yield
        return
    with warnings.catch_warnings(record=True) as records:
        try:
            yield
        finally:
            for record in records:
                send(("warning", reports.pack_warning(record)))


def _finish(item: pytest.Item) -> None:
    """Tear down what the interrupted test had set up, as the end of the session does in a plain run."""
    with contextlib.suppress(Exception):
        item.session._setupstate.teardown_exact(None)
