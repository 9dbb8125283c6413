"""One test that may run beside others: begun ahead of its turn, or at its turn, and reported then.

What is done outside, in which order, stays as :mod:`~pytest_isolate.plugin.run.isolated_item` has it; only the run
itself may begin earlier. It does so where nothing is to be set up or torn down outside between now and the test's turn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.plugin import higher_scoped_fixtures, hook_callers, phases
from pytest_isolate.plugin.integrations import live_log
from pytest_isolate.plugin.run import kept_folders, own_output
from pytest_isolate.plugin.run.isolated_item import IsolatedItem
from pytest_isolate.plugin.run.own_output import OwnOutput
from pytest_isolate.plugin.run.protocol_wrappers import ProtocolWrappers
from pytest_isolate.plugin.run.schedule import Begin, Wish
from pytest_isolate.session import own_handlers
from pytest_isolate.session.interrupted import Interrupted
from pytest_isolate.spec.errors import IsolateError

if TYPE_CHECKING:
    from pytest_isolate.plugin.report.received import Received
    from pytest_isolate.plugin.run.beside import Beside
    from pytest_isolate.plugin.run.child_protocol import ChildProtocol
    from pytest_isolate.plugin.run.isolation import Isolation
    from pytest_isolate.plugin.run.thread_logs import ThreadLogs
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.session.begun_run import Run
    from pytest_isolate.spec.spec import Spec


class ItemBeside(IsolatedItem):
    """One item, from its beginning to its tear-down."""

    def __init__(
        self,
        isolation: Isolation,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        spec: Spec,
        ahead: Spec | None,
        *,
        beside: Beside,
        turn: int,
    ) -> None:
        super().__init__(isolation, item, nextitem, spec, ahead)
        self._beside = beside
        self.turn = turn
        self.folder = _folder_name(item)  #: what its ``tmp_path`` will be called, without the number; or None
        self._asked = spec
        self._setup: pytest.CallInfo[object] | None = None  # of a run that was begun ahead
        self._run: Run | None = None
        self._why_alone: str | None = None
        self._unread: dict[str, str] = {}
        self._live = (b"", b"")

    def wish(self) -> Wish:
        """When it may begin, as things are now, and what it takes."""
        limits = self._spec.limits
        return Wish(self._when(), jobs=max(1, math.ceil(limits.cpus or 1)), memory=limits.memory or 0)

    def _when(self) -> Begin:
        self._why_alone = self._beside.why_alone(self._item, self._asked)
        if self._why_alone is not None:
            return Begin.ALONE
        if not higher_scoped_fixtures.is_free(self._item, self._fixtures_outside):
            return Begin.BARRIER
        item = self._item
        waits = (
            (self._spec is not self._asked and self._isolation.integrations.keep_in_order(item))
            or kept_folders.makes_folders(item)
            or self._beside.is_taken(self)
            or higher_scoped_fixtures.must_be_looked_at(item, self._fixtures_outside)
        )
        return Begin.IN_TURN if waits else Begin.AHEAD

    def begin_ahead(self) -> None:
        """Begin in another test's turn. What cannot begin does so, or is told why, at its own."""
        hook = hook_callers.own_hook(self._item.config, "pytest_runtest_setup", watching=True)
        self._setup = phases.run_phase("setup", hook, item=self._item)
        failure = None if self._setup.excinfo is None else self._setup.excinfo.value
        try:
            begin_log = partial(live_log.begin, self._item.config)
            self._run = self._start(failure, [ProtocolWrappers(self._item).enter, begin_log])
        except BaseException as error:
            self._beside.is_over(self)
            if not _comes_again(error):
                raise

    def have_turn(self, nextitem: pytest.Item | None) -> None:
        """It is its turn now, and this is what follows."""
        self._nextitem = nextitem

    def set_up(self, lack: IsolateError | None) -> pytest.CallInfo[object]:
        if self._run is not None and self._setup is not None:
            return self._setup
        return super().set_up(lack)

    def run(self, failure: BaseException | None, attempts_before: int) -> tuple[Outcome, str]:
        if attempts_before == 0 and (end := self._run_beside(failure)) is not None:
            return end
        self._beside.wait_for_all()
        self._unread, self._live = {}, (b"", b"")
        return super().run(failure, attempts_before)

    def _run_beside(self, failure: BaseException | None) -> tuple[Outcome, str] | None:
        """As :meth:`run`; None: it has to be run by itself."""
        self._stop_timers()  # before the look at threads, which pytest-timeout's timer may be
        wish = None if self._run is not None else self.wish()
        if wish is not None and self._why_alone is not None:
            self._beside.note_alone(self._why_alone)
            return None
        try:
            with self._listen_to_threads() as thread_logs:
                self._beside.thread_logs = thread_logs
                outcome = self._wait_beside(failure, wish)
        except BaseException as error:
            self._beside.is_over(self)
            if not _comes_again(error):
                self._beside.discard_all()  # wherever it was, what others have told may be lost
                raise
            return None
        return None if outcome is None else (outcome, "" if thread_logs is None else thread_logs.text())

    def _wait_beside(self, failure: BaseException | None, wish: Wish | None) -> Outcome | None:
        beside = self._beside
        try:
            beside.have_turn(self)
            if self._run is None and wish is not None:
                beside.wait_for_room(self, wish)
                self._run = self._start(failure, [])
            assert self._run is not None
            return beside.runs.wait_for(self._run, beside.fill)
        except Interrupted as end:  # raised again when the reports of the run have been logged
            return end.outcome

    def _start(self, failure: BaseException | None, first: list[Callable[[], object]]) -> Run:
        beside = self._beside
        beside.begins(self._item.session)
        child = self._prepare_child(failure, 0, None)
        output = OwnOutput(beside.streams)
        child.first[:0] = [beside.stop_listening, output.take_over, *first]
        return beside.runs.start(
            self._spec,
            child.run,
            keep=kept_folders.base_of_tmp_path(self._item),
            ahead=self._ahead,
            own=output.files,
            at_end=partial(self._end, output),
            at_turn=self._isolation.keep_layer(self._item),
        )

    def _end(self, output: OwnOutput) -> None:
        """It does no more."""
        self._unread, self._live = output.gather()
        self._beside.is_over(self)

    def _prepare_child(
        self, failure: BaseException | None, attempts_before: int, thread_logs: ThreadLogs | None
    ) -> ChildProtocol:
        child = super()._prepare_child(failure, attempts_before, thread_logs)
        chain = self._item.listchain()  # of the test whose turn it is there may be more
        return child._replace(stack={node: entry for node, entry in child.stack.items() if node in chain})

    def receive(self, outcome: Outcome, thread_log: str) -> Received:
        own_output.show(self._live)
        return super().receive(outcome, thread_log)

    def _take_unread(self) -> dict[str, str]:
        unread = super()._take_unread()
        return {stream: unread.get(stream, "") + self._unread.get(stream, "") for stream in {**unread, **self._unread}}

    def tear_down(self, result: Received) -> None:
        session = self._item.session
        if result.stops or result.interrupt is not None or session.shouldfail or session.shouldstop:
            self._beside.discard_all()  # what they were forked under is torn down now
        super().tear_down(result)


def _comes_again(error: BaseException) -> bool:
    """Whether the test is to be run by itself, which tells the error if it is there again."""
    return isinstance(error, (IsolateError, OSError)) and own_handlers.find_raised(error) is None


def _folder_name(item: pytest.Item) -> str | None:
    """As ``_pytest.tmpdir._mk_tmp`` names it; the same in 8.0 to 9.2."""
    return re.sub(r"[\W]", "_", item.name)[:30] if kept_folders.base_of_tmp_path(item) is not None else None
