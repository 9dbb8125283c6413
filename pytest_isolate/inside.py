"""The half of an isolated test that runs in the forked child: the item's own protocol, reports sent as they come.

All that can be found out before the fork is found out there, by :func:`prepared`: of each page of memory that Python
looks at in the child, the kernel makes a copy first, and that is most of what a test costs
(docs/decisions/cost-of-a-test.md).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from posix import _exit, getpid  # not os's, which a test may have replaced
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol  # no public way runs the three phases of an item; the same in 8.0, 9.0, 9.2

from pytest_isolate import forwarding, frames, measuring, neighbours, plugins, reports, testing, wider

if TYPE_CHECKING:
    from pytest_isolate.forwarding import Forwarder
    from pytest_isolate.guest import Line
    from pytest_isolate.measuring import Ongoing
    from pytest_isolate.overhearing import Overheard
    from pytest_isolate.wider import Wider

#: Hooks that tell plugins how a test goes.
_TOLD = ("pytest_runtest_logstart", "pytest_runtest_logreport", "pytest_runtest_logfinish")


def prepared(
    item: pytest.Item,
    failure: BaseException | None,
    attempts: int,
    *,
    overheard: Overheard | None,
    apart: Iterable[Wider],
    coverage: Ongoing | None,
    messenger: Messenger,
) -> Callable[[Line], None]:
    """What is to be called in the child: it runs ``item`` and sends what happens as pairs of a kind and its data.

    ``failure`` is what the set-up of its wider-scoped fixtures raised outside; it is raised anew where they would have
    been set up, so that it falls in the same place among the hooks of other plugins as in a plain run. ``attempts``:
    how many there have been, in sandboxes that died. ``overheard`` listens to threads that are not here. ``apart`` are
    wider-scoped fixtures that are set up here. ``coverage`` is the measurement in progress, for
    :func:`pytest_isolate.measuring.forwarded`. ``messenger`` has been registered.
    """
    config = item.config
    steps: list[Callable[[], object]] = [] if overheard is None else [overheard.leave]
    steps += [partial(wider.forget, fixture) for fixture in apart]
    steps += neighbours.first_steps(item, attempts)
    if (timer := _faulthandler_timer(config)) is not None:
        steps.append(timer)
    if failure is not None:
        steps.append(partial(_replay, item, failure))
    forwarders: list[Forwarder] = [] if coverage is None else [partial(measuring.forwarded, coverage)]
    forwarders += [*forwarding.forwarders(config), *neighbours.forwarders(item)]
    afterwards = [*forwarding.afterwards(config)]
    if config.pluginmanager.hasplugin("warnings"):
        warned = forwarding.Warned()
        steps.append(warned.start)
        afterwards.append(warned.send)
    session, protocol = item.session, _protocol(item)
    stacks = _disowned(item), session._setupstate.stack  # its own, too: to forget it would write to all that it has
    stops = session.shouldstop, session.shouldfail

    def run(line: Line) -> None:
        session._setupstate.stack = stacks[0]
        messenger.take_over(line)
        config.stash[testing.ISOLATED] = testing.Isolated(line.spec, line.degraded, line.usage)
        for step in steps:
            step()
        _run(item, line, forwarding.within(forwarders, line, protocol))
        for send in afterwards:
            send(line)
        for name, before in zip(("shouldstop", "shouldfail"), stops, strict=True):
            if (now := getattr(session, name)) != before:
                line((name, now if isinstance(now, bool) else str(now)))

    return run


def _run(item: pytest.Item, send: Callable[[object], None], protocol: Callable[[], object]) -> None:
    try:
        protocol()
    except pytest.exit.Exception as end:
        _finish(item)
        send(("exit", [str(end.msg), end.returncode]))
    except KeyboardInterrupt as end:
        _finish(item)
        send(("interrupt", [[str(argument) for argument in end.args], frames.places(end)]))
    except BaseException:  # noqa: BLE001 - a plugin's hook broke; the parent tells
        send(("broken", traceback.format_exc()))


def _protocol(item: pytest.Item) -> Callable[[], object]:
    """The protocol of an item, pytest's or that of a plugin which has one instead.

    There is no next item: whatever was set up in the child is torn down in it, wider-scoped fixtures asked for
    dynamically too.
    """
    others = [*plugins.protocols(item)]

    def protocol() -> object:
        for other in others:
            if other() is not None:
                return True
        return runtestprotocol(item, nextitem=None)

    return protocol


def _disowned(item: pytest.Item) -> dict[Any, Any]:
    """The set-up stack of the child, which leaves the clean-up of what was set up outside to the process that did it.

    Private: ``Session._setupstate.stack``, a dict of node to (finalizers, exception); the same in 8.0, 9.0, 9.2.
    """
    stack = item.session._setupstate.stack
    return {node: ([], exception) for node, (_, exception) in stack.items() if node is not item}


class Messenger:
    """The plugin that tells the parent of each report, and when a debugger asks for somebody.

    Registered before the first fork, and idle in the parent: registering takes pluggy longer than an empty test does.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._line: Line | None = None
        #: Of each hook: its caller, our implementations, and all. To forget these inside would write to each of them.
        self._callers: list[tuple[Any, list[Any], list[Any]]] = []
        self._owner = 0
        self._starts = 0

    def register(self) -> None:
        """In the parent."""
        manager = self._config.pluginmanager
        manager.register(self, "isolate-messenger")
        others = [plugin for plugin in manager.get_plugins() if plugin is not self]
        for name in _TOLD:
            caller: Any = getattr(self._config.hook, name)
            own = [*manager.subset_hook_caller(name, others)._hookimpls]
            self._callers.append((caller, own, caller._hookimpls))

    def take_over(self, line: Line) -> None:
        """Let each logged report go to the parent instead of to the plugins of this process.

        Whoever is told of a report here (terminal, junitxml, xdist's worker, which has the controller's socket) would
        be told twice. Proxies of ``item.ihook`` look into the caller's list each time. Private:
        ``HookCaller._hookimpls``, pluggy 1.3 to 1.7.
        """
        self._line, self._owner = line, getpid()
        for caller, own, _ in self._callers:
            caller._hookimpls = own

    @pytest.hookimpl
    def pytest_plugin_registered(self) -> None:
        plugins.registered(self._config)

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


def _faulthandler_timer(config: pytest.Config) -> Callable[[], None] | None:
    """Starts pytest's ``faulthandler_timeout`` anew: its timer is a thread, and threads do not survive a fork."""
    plugin = config.pluginmanager.getplugin("faulthandler")
    seconds = float(config.getini("faulthandler_timeout") or 0) if plugin is not None else 0.0
    if seconds <= 0:
        return None
    import faulthandler  # noqa: PLC0415 - pytest loads it late as well

    descriptor = config.stash[plugin.fault_handler_stderr_fd_key]
    try:
        leave = bool(config.getini("faulthandler_exit_on_timeout"))
    except ValueError:  # older versions of pytest do not know it
        leave = False
    return partial(faulthandler.dump_traceback_later, seconds, file=descriptor, exit=leave)


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


def _finish(item: pytest.Item) -> None:
    """Tear down what the interrupted test had set up, as the end of the session does in a plain run."""
    with suppress(Exception):
        item.session._setupstate.teardown_exact(None)
