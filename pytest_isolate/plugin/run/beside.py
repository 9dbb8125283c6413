"""The tests of one session side by side: whose turn it is, which begin ahead of theirs, which stand alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.plugin import fixtures, hook_callers
from pytest_isolate.plugin.config import item_specs
from pytest_isolate.plugin.integrations import live_log, xdist
from pytest_isolate.plugin.run.item_beside import ItemBeside
from pytest_isolate.plugin.run.own_output import Streams
from pytest_isolate.plugin.run.schedule import Begin, Schedule, Wish
from pytest_isolate.spec.errors import IsolateError

if TYPE_CHECKING:
    from pytest_isolate.plugin.run.isolation import Isolation
    from pytest_isolate.plugin.run.thread_logs import ThreadLogs
    from pytest_isolate.session.side_by_side import SideBySide
    from pytest_isolate.spec.spec import Spec

_EXCLUSIVE = "exclusive=True"
_AHEAD = 32  # for each job: how many may have begun and wait for their turn


class Beside:
    """Knows the tests that were begun, and those that follow."""

    def __init__(self, isolation: Isolation, jobs: int) -> None:
        self._isolation = isolation
        self.jobs = jobs  #: how many run at a time
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._schedule = Schedule(jobs=jobs, ahead=_AHEAD * jobs, memory=memory, ask=self._ask)
        self._tests: dict[pytest.Item, ItemBeside] = {}  # that have not had their turn, as far as they were looked at
        self._follow: dict[int, pytest.Item] = {}  # where only the next test is known: it and the present one, by turn
        self._turn = -1
        self._session: pytest.Session | None = None
        self._folder: str | None = None  # as of ItemBeside, of the test whose turn it is
        self.thread_logs: ThreadLogs | None = None  #: where that test's report gets what threads of this process log

    @cached_property
    def runs(self) -> SideBySide:
        """The runs themselves. :raises IsolateError: there is no keeper."""
        runs = self._isolation.keeper().side_by_side(self.jobs)
        self._isolation.config.stash[fixtures.RUNNING] = runs.pids
        return runs

    @cached_property
    def streams(self) -> Streams:
        """Where tests write."""
        return Streams(self._isolation.config)

    def take(self, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec) -> ItemBeside:
        """It is the turn of ``item``, whether it has begun or not."""
        self._session = item.session
        self._turn = self._find_turn(item, nextitem)
        test = self._tests.pop(item, None) or self._make(item, nextitem, spec, self._turn)
        test.have_turn(nextitem)
        return test

    def have_turn(self, test: ItemBeside) -> None:
        """It is set up: others may begin beside it now."""
        self._folder = test.folder
        self._schedule.have_turn(test.turn)

    def fill(self) -> None:
        """Begin what may begin now."""
        while (turn := self._schedule.choose(self.runs.row)) is not None:
            item = self._at(turn)
            assert item is not None
            self._tests[item].begin_ahead()

    def wait_for_room(self, test: ItemBeside, wish: Wish) -> None:
        """Wait until a test may begin that has its turn. :raises KeyboardInterrupt: by Ctrl-C."""
        while not self._schedule.has_room(wish, self.runs.row):
            self.runs.wait_for_one()
        self._schedule.begun(test.turn, wish)

    def wait_for_all(self) -> None:
        """Wait until no test runs. :raises KeyboardInterrupt: by Ctrl-C."""
        if "runs" in vars(self):
            self.runs.wait_for_all()

    def stop_listening(self) -> None:
        """In a child, which may be that of a later test."""
        if self.thread_logs is not None:
            self.thread_logs.stop()

    def begins(self, session: pytest.Session) -> None:
        """A test is about to be forked."""
        self._isolation.keeper().settle(self._isolation.count_remaining(session))

    def is_over(self, test: ItemBeside) -> None:
        """It does not run, or no more."""
        self._schedule.ended(test.turn)

    def discard_all(self) -> None:
        """Throw away all that was begun ahead."""
        self._tests.clear()
        if "runs" in vars(self):
            self.runs.discard_all()

    def close(self) -> None:
        """The end of the session."""
        if "runs" in vars(self):
            self.runs.close()

    def _find_turn(self, item: pytest.Item, nextitem: pytest.Item | None) -> int:
        """Number of the turn: the place in the session's list, where the tests are run by that."""
        items, turn = item.session.items, self._turn + 1
        if not self._follow and not xdist.is_worker(item.config):
            while turn < len(items) and items[turn] is not item:
                turn += 1
            following = items[turn + 1] if turn + 1 < len(items) else None
            if turn < len(items) and following is nextitem:
                return turn
            turn = max(self._turn, len(items)) + 1
        self._follow = {turn: item} if nextitem is None else {turn: item, turn + 1: nextitem}
        return turn

    def _at(self, turn: int) -> pytest.Item | None:
        if self._follow:
            return self._follow.get(turn)
        items = [] if self._session is None else self._session.items
        return items[turn] if turn < len(items) else None

    def _ask(self, turn: int) -> Wish | None:
        """What the test of a turn wants; see :class:`.Schedule`."""
        if (item := self._at(turn)) is None:
            return None
        if (spec := item_specs.spec_for(item)) is None:
            return Wish(Begin.BARRIER)
        if item not in self._tests:
            self._tests[item] = self._make(item, self._at(turn + 1), spec, turn)
        return self._tests[item].wish()

    def _make(self, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec, turn: int) -> ItemBeside:
        ahead = None if nextitem is None else item_specs.spec_for(nextitem)
        return ItemBeside(self._isolation, item, nextitem, spec, ahead, beside=self, turn=turn)

    def why_alone(self, item: pytest.Item, spec: Spec) -> str | None:
        """What it reaches outside of its sandbox, so that it must run beside no other; None: nothing."""
        try:
            keeper = self._isolation.keeper()
            if keeper.degraded(spec):
                return "isolation is degraded"
            if spec.exclusive is not None:
                return _EXCLUSIVE if spec.exclusive else None
            if self._isolation.integrations.stands_alone(item):
                return "a plugin measures them, or reruns them"
            if (why := self._shared_outside() or _reached(spec)) is not None:
                return why
            return "a server of a fixture, or a database" if keeper.reaches_out(spec) else None
        except IsolateError:
            return "the host lacks something"

    def _shared_outside(self) -> str | None:
        """What pytest's process has that all tests would use at the same time."""
        isolation = self._isolation
        return "threads of pytest's process may log" if isolation.threads.may_log() else isolation.descriptors.shared()

    def note_alone(self, why: str) -> None:
        """A test runs alone, for the summary; not if its user wants that."""
        if why == _EXCLUSIVE:
            return
        alone = self._isolation.config.stash.setdefault(fixtures.ALONE, {})
        alone[why] = alone.get(why, 0) + 1

    def is_taken(self, test: ItemBeside) -> bool:
        """Whether a test before it, whose folder has not come out yet, may make a folder of the same name."""
        folders = {other.folder for other in self._tests.values() if other.turn < test.turn}
        return test.folder is not None and test.folder in (self._folder, *folders)


def _reached(spec: Spec) -> str | None:
    if spec.network != "none":
        return f'network="{spec.network}"'
    return next((key for key in ("writable", "devices") if getattr(spec, key)), None)


def obstacle(config: pytest.Config, makereport_outside: Iterable[str], *, asked: bool) -> str | None:
    """Why the tests of this session run one at a time; None if nothing is in the way.

    :param asked: the user has said how many are to run at a time, so that this is worth what it costs.
    """
    if not asked and live_log.is_shown(config):
        return "what a test logs is shown at once (log_cli)"
    return next(_obstacles(config, makereport_outside), None)


def _obstacles(config: pytest.Config, makereport_outside: Iterable[str]) -> Iterator[str]:
    option = config.option
    if (capture := getattr(option, "capture", "no")) != "fd":  # -p no:capture
        yield f"their output goes to the terminal at once (--capture={capture})"
    for name, flag in (("usepdb", "--pdb"), ("trace", "--trace"), ("setupshow", "--setup-show")):
        if getattr(option, name, False):
            yield f"{flag} shows one at a time"
    if config.pluginmanager.hasplugin("logging-plugin") and (option.log_file or config.getini("log_file")):
        yield "all of them write to one log file"
    if outside := [name for name, found in hook_callers.find_plugins(config, makereport_outside).items() if found]:
        yield f"what a test came to decides about others ({', '.join(outside)})"
    if foreign := hook_callers.foreign_wrappers(config):
        yield f"a hook wraps pytest_runtest_protocol of each ({', '.join(foreign)})"
