"""Several runs at a time: each in a slot of its own, all waited for in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import leak_look
from pytest_isolate.sandbox.watcher import wait_for_one
from pytest_isolate.session import leaks, outcome_builder, own_handlers
from pytest_isolate.session.begun_run import Run
from pytest_isolate.session.interrupted import Interrupted
from pytest_isolate.spec.errors import SetupError

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.session.held import Held
    from pytest_isolate.session.run_starter import RunStarter, Slot, Start
    from pytest_isolate.session.sandbox_pool import Sandboxes
    from pytest_isolate.spec.spec import Spec


#: Seconds of a run that is short: beside it pytest's process does no work of its own, as each page that it writes to is
#: copied while a child lives, which takes it longer than such a run lasts (docs/decisions/side-by-side.md).
_SHORT = 0.05
#: How many short runs follow one another, for each job, before this process reports them all: while one ends and the
#: next is forked, another computes.
_ROW = 4
#: How many all jobs have begun at most, if not by one each: where there are more jobs, this process is the limit.
_ROWS = 16
_MEMORY = 8  # how many runs the mean of their lengths has in mind


class SideBySide:
    """Runs that go on at the same time, as many as there are jobs."""

    def __init__(self, starter: RunStarter, sandboxes: Sandboxes, jobs: int) -> None:
        self._starter = starter
        self._sandboxes = sandboxes
        self._jobs = jobs
        self._free: list[Slot] = []
        self._prepared: list[Run] = []  # that are forked before the next wait, as far as there is room
        self._running: list[Run] = []
        self._waiting: list[Run] = []  # ended, and their sandboxes are still held: something is to be copied out
        self._mean = 0.0  # seconds of the last runs
        self._row = max(1, min(_ROW, _ROWS // jobs))

    @property
    def row(self) -> int:
        """How many may have begun for each job; where it is more than one, they are forked as others end."""
        return self._row if self._mean <= _SHORT / 2 else 1

    def pids(self) -> set[int]:
        """The processes of the runs that go on."""
        return {run.watcher.processes.pid for run in self._running}

    def start(
        self,
        spec: Spec,
        body: Callable[[Line], None],
        *,
        keep: str | None = None,
        ahead: Spec | None = None,
        own: Iterable[int] = (),
        at_end: Callable[[], object] = lambda: None,
        at_turn: Callable[[Held, Outcome], Outcome] | None = None,
    ) -> Run:
        """Start a run, which is forked in the next wait, as soon as there is room.

        Parameters and errors as of :meth:`.keeper.Keeper.run`.

        :param own: descriptors that must not reach another one.
        :param at_end: called when it has ended, or was thrown away, or did not begin.
        :param at_turn: ``at_end`` of :meth:`.keeper.Keeper.run`.
        """
        try:
            held = self._sandboxes.hold(spec)
        except BaseException:
            at_end()
            raise
        try:
            if leaks.are_looked_for(held):
                body = leak_look.watched(body)
            start = self._prepare(held, body, own)
        except BaseException:
            self._sandboxes.release(held)
            at_end()
            raise
        run = Run(held=held, slot=start.slot, start=start, keep=keep, at_end=at_end, at_turn=at_turn)
        self._prepared.append(run)
        self._sandboxes.ask(ahead, ready=self._jobs * self.row)
        return run

    def _prepare(self, held: Held, body: Callable[[Line], None], own: Iterable[int]) -> Start:
        slot = self._free.pop() if self._free else self._starter.new_slot()
        try:
            return self._starter.prepare(slot, held, body, own=tuple(map(Fd, own)))
        except BaseException:
            self._free.append(slot)
            raise

    def wait_for(self, run: Run, idle: Callable[[], object]) -> Outcome | None:
        """Wait for the end of ``run``; its outcome, as of :class:`Run`.

        :param idle: called to start other runs, when there may be room.
        :raises Interrupted: by Ctrl-C, as of :meth:`.keeper.Keeper.run`; the other runs have been thrown away.
        """
        try:
            while True:
                if not self._keeps_still(run):
                    idle()
                if not self._goes_on(run):
                    break
                self.wait_for_one()
            self._launch(quiet=False)
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(run, interrupt) from None
        if run in self._waiting:
            assert run.outcome is not None
            self._waiting.remove(run)
            run.outcome = replace(run.outcome, lost=outcome_builder.take_kept(run.held, run.keep))
            if run.at_turn is not None:
                run.outcome = run.at_turn(run.held, run.outcome)
            self._sandboxes.release(run.held)
        return run.outcome

    def _keeps_still(self, run: Run) -> bool:
        """Whether none is to begin now, as those that go on are short.

        The next ones are forked together, when these have ended and ``run`` has been reported.
        """
        if run in self._prepared or self._mean > _SHORT:
            return False
        return not self._running or self._still_seconds() > 0

    def _still_seconds(self) -> float:
        """For how long those that go on may still turn out to be short."""
        return min(run.watcher.started for run in self._running) + _SHORT - calls.monotonic()

    def _goes_on(self, run: Run) -> bool:
        return run in self._running or run in self._prepared

    def _launch(self, *, quiet: bool) -> None:
        """Fork those that are prepared and have room. :raises KeyboardInterrupt: by Ctrl-C."""
        room = self._jobs - len(self._running)
        if not self._prepared or room <= 0:
            return
        runs, self._prepared = self._prepared, []
        others = [run.watcher for run in self._running]
        secrets = [fd for run in self._running for fd in run.secrets()]
        try:
            watchers = self._starter.launch(
                [run.start for run in runs], at_once=room, alone=False, quiet=quiet, others=others, secrets=secrets
            )
        except BaseException as error:
            for run in runs:
                self._give_back(run)
            if isinstance(error, OSError) and own_handlers.find_raised(error) is None:
                return  # by itself each comes again, and is told then
            raise
        interrupt = None
        for run, watcher in zip(runs, watchers, strict=True):
            if watcher is None:
                self._prepared.append(run)
                continue
            if isinstance(watcher, SetupError):
                self._give_back(run)
                continue
            watcher.begin()
            run.watcher = watcher
            self._running.append(run)
            interrupt = interrupt or watcher.interrupt
        if interrupt is not None:
            raise interrupt

    def wait_for_all(self) -> None:
        """Wait for the end of all runs. :raises KeyboardInterrupt: by Ctrl-C."""
        while self._running or self._prepared:
            self.wait_for_one()

    def discard(self, *runs: Run) -> None:
        """Throw runs away, wherever they are: nothing of them comes out."""
        self._begin_to_kill(runs)
        for run in runs:
            run.outcome = None
            if run in self._running:
                run.watcher.kill()
                self._leave(run)
            elif run in self._waiting:
                self._waiting.remove(run)
                self._sandboxes.release(run.held)
            elif run in self._prepared:
                self._prepared.remove(run)
                run.start.cancel()
                self._give_back(run)

    def discard_all(self) -> None:
        """Throw all runs away."""
        self.discard(*self._prepared, *self._running, *self._waiting)

    def close(self) -> None:
        """Close what the slots have open, and throw away what is still there."""
        self.discard_all()
        for slot in self._free:
            self._starter.slots.remove(slot)
            slot.close()

    def wait_for_one(self) -> None:
        """Fork what is prepared, and wait until a run has something to tell; take note of those that have ended.

        :raises KeyboardInterrupt: by Ctrl-C.
        """
        self._launch(quiet=True)
        if not self._running:  # no fork
            return
        try:
            still = self._still_seconds()
            wait_for_one([run.watcher for run in self._running], seconds=still if still > 0 else None)
        except SetupError:  # one does not go that was killed; by itself it is told
            for run in [run for run in self._running if run.watcher.processes.lost]:
                self._leave(run)
        for run in [run for run in self._running if not run.watcher.goes_on()]:
            self._finish(run)

    def _finish(self, run: Run) -> None:
        ended = run.watcher.finish()
        self._mean += (ended.wall_seconds - self._mean) / _MEMORY
        try:
            if not run.watcher.wants_terminal:
                trouble = run.slot.forker.trouble()
                run.outcome = outcome_builder.conclude(run.held, ended, trouble, run.keep, take=False)
                if leaks.are_looked_for(run.held):
                    run.outcome = leaks.complete(run.outcome, run.held)
        except (SetupError, OSError) as error:  # by itself it comes again, and is told then, or it does not
            if own_handlers.find_raised(error) is not None:
                raise
        finally:
            self._leave(run)

    def _leave(self, run: Run) -> None:
        """Leave the slot to the next; the sandbox as well, if nothing is to be copied out of it."""
        self._running.remove(run)
        calls.close(run.watcher.reader)
        calls.close(run.watcher.control)
        if run.outcome is not None and (run.keep is not None or run.at_turn is not None):
            self._waiting.append(run)
        self._give_back(run)

    def _give_back(self, run: Run) -> None:
        run.slot.forker.reap()
        self._free.append(run.slot)
        if run not in self._waiting:
            self._sandboxes.release(run.held)
        run.at_end()

    def _begin_to_kill(self, runs: Iterable[Run]) -> None:
        """Of several before any is waited for: they end at the same time, and the kernel takes its time for each."""
        for run in runs:
            if run in self._running and run.watcher.goes_on():
                run.watcher.processes.begin_to_kill()

    def _interrupted(self, run: Run, interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
        """Throw the other runs away, which end while this one is interrupted; what is to be raised."""
        others = [other for other in (*self._prepared, *self._running, *self._waiting) if other is not run]
        self._begin_to_kill(others)
        try:
            self._interrupt(run, interrupt)
        finally:
            self.discard(*others)
        if run in self._waiting:
            self._waiting.remove(run)
            self._sandboxes.release(run.held)
        return interrupt if run.outcome is None else Interrupted(replace(run.outcome, interrupted=True))

    def _interrupt(self, run: Run, interrupt: KeyboardInterrupt) -> None:
        """Let it tear down, if it goes on."""
        if run in self._prepared:
            self.discard(run)
        if run not in self._running:
            return
        run.watcher.interrupt = interrupt
        try:
            run.watcher.wait()
            self._finish(run)
        except SetupError:  # it does not go
            pass
        finally:
            if run in self._running:  # pressed twice
                self.discard(run)
