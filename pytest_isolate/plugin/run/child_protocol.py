"""The half of an isolated test that runs in the forked child: the item's own protocol, reports sent as they come.

All that can be found out before the fork is found out there, by :func:`prepare`: of each page of memory that Python
looks at in the child, the kernel makes a copy first, and that is most of what a test costs
(docs/decisions/cost-of-a-test.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest
from _pytest.runner import runtestprotocol  # no public way runs the three phases of an item; the same in 8.0, 9.0, 9.2

from pytest_isolate.plugin import fixtures, hook_callers, messages
from pytest_isolate.plugin.report import tracebacks
from pytest_isolate.plugin.run import garbage
from pytest_isolate.plugin.run.warning_recorder import WarningRecorder
from pytest_isolate.spec.errors import exception_text
from pytest_isolate.testing import Isolated

if TYPE_CHECKING:
    from pytest_isolate.plugin.integrations.integration import Forwarder
    from pytest_isolate.plugin.integrations.registry import Integrations
    from pytest_isolate.plugin.messages import Send
    from pytest_isolate.plugin.run.report_sender import Messenger
    from pytest_isolate.sandbox.channel import Line


class ChildProtocol(NamedTuple):
    """What the child is to do for one test; :func:`prepare` makes it before the fork."""

    session: pytest.Session
    item: pytest.Item
    messenger: Messenger
    stack: dict[Any, Any]  #: the set-up stack that the child is to have
    #: The set-up stack that the child inherits. Only to keep a reference: with the last one Python would free the
    #: stack in the child, and so write to every node and finaliser on it.
    inherited_stack: dict[Any, Any]
    stops: dict[str, str | bool]  #: the session's ``shouldstop`` and ``shouldfail``, as they are before the test
    first: list[Callable[[], object]]  #: what is to be done before the test
    around: list[Forwarder]  #: what is to be entered before the test and left after it
    protocol: Callable[[], object]  #: runs the phases of the test
    last_error: BaseException | None  #: ``sys.last_value``, as it is before the test
    after: list[Callable[[Send], None]]  #: what is to be sent after the test

    def run(self, line: Line) -> None:
        """In the child: run the test, and send what happens as pairs of a kind and its data."""
        self.session._setupstate.stack = self.stack
        self.messenger.take_over(line)
        self.item.config.stash[fixtures.ISOLATED] = Isolated(line.spec, line.degraded, line.usage)
        for step in self.first:
            step()
        self._run_test(line)
        for send_more in self.after:
            send_more(line)
        for name, before in self.stops.items():
            if (now := getattr(self.session, name)) != before:
                line((name, now if isinstance(now, bool) else str(now)))

    def _run_test(self, send: Line) -> None:
        try:
            if self.around:
                self._run_within(send)
            else:
                self._run_phases()
        except pytest.exit.Exception as end:
            _finish(self.item)
            send((messages.EXIT, [str(end.msg), end.returncode]))
        except KeyboardInterrupt as end:
            _finish(self.item)
            send((messages.INTERRUPT, [[str(argument) for argument in end.args], tracebacks.places(end)]))
        except BaseException:  # noqa: BLE001 - a plugin's hook broke; the parent reports it
            send((messages.BROKEN, exception_text()))

    def _run_within(self, send: Line) -> None:
        with ExitStack() as stack:
            for forwarder in self.around:
                stack.enter_context(forwarder(send))
            self._run_phases()

    def _run_phases(self) -> None:
        """The report of the tear-down is sent when the test's garbage has been found, as that may make it an error."""
        try:
            self.protocol()
            if getattr(sys, "last_value", None) is not self.last_error:
                garbage.forget_last_error()
            try:
                self.messenger.collect(self.item)
            except Exception as error:  # noqa: BLE001 - a warning, or a group of them
                self.messenger.fail_tear_down(self.item, error)
        finally:
            self.messenger.send_tear_down()


def prepare(
    item: pytest.Item,
    attempts: int,
    integrations: Integrations,
    messenger: Messenger,
    *,
    first: Iterable[Callable[[], object]] = (),
    failure: BaseException | None = None,
) -> ChildProtocol:
    """Find out, before the fork, all that the child is to do for ``item``.

    :param attempts: how many there have been, in sandboxes that died.
    :param messenger: has been registered.
    :param first: what the child is to do before all else.
    :param failure: what the set-up of the item's higher-scoped fixtures raised outside. It is raised anew where they
        would have been set up, so that it falls in the same place among the hooks of other plugins as in a plain run.
    """
    session, config = item.session, item.config
    steps = [*first, *integrations.before(item, attempts)]
    if (timer := _faulthandler_timer(config)) is not None:
        steps.append(timer)
    if failure is not None:
        steps.append(partial(_replay, item, failure))
    after = integrations.after()
    if config.pluginmanager.hasplugin("warnings"):
        recorder = WarningRecorder()
        steps.append(recorder.start)
        after.append(recorder.send)
    return ChildProtocol(
        session=session,
        item=item,
        messenger=messenger,
        stack=_disown(item),
        inherited_stack=session._setupstate.stack,
        stops={messages.SHOULD_STOP: session.shouldstop, messages.SHOULD_FAIL: session.shouldfail},
        first=steps,
        around=integrations.around(item),
        protocol=_find_protocol(item),
        last_error=getattr(sys, "last_value", None),
        after=after,
    )


def _find_protocol(item: pytest.Item) -> Callable[[], object]:
    """The protocol of an item, pytest's or that of a plugin which has one instead.

    There is no next item: whatever was set up in the child is torn down in it, higher-scoped fixtures asked for
    dynamically too.
    """
    others = [*hook_callers.other_protocols(item)]

    def protocol() -> object:
        for other in others:
            if other() is not None:
                return True
        return runtestprotocol(item, nextitem=None)

    return protocol


def _disown(item: pytest.Item) -> dict[Any, Any]:
    """The set-up stack of the child, which leaves the clean-up of what was set up outside to the process that did it.

    Private: ``Session._setupstate.stack``, a dict of node to (finalizers, exception); the same in 8.0, 9.0, 9.2.
    """
    stack = item.session._setupstate.stack
    return {node: ([], exception) for node, (_, exception) in stack.items() if node is not item}


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
