"""Starts runs: forks this process into a sandbox that is held, and sets a watcher to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import child
from pytest_isolate.sandbox.channel import Channel, Line
from pytest_isolate.sandbox.forker import Entry, Forker, fork_together
from pytest_isolate.sandbox.processes import Processes
from pytest_isolate.sandbox.watcher import Watcher
from pytest_isolate.session.logging_locks import Handlers
from pytest_isolate.spec.errors import SetupError

if TYPE_CHECKING:
    from pytest_isolate.plan.plan import Plan
    from pytest_isolate.session.held import Held
    from pytest_isolate.session.huge_pages import Heap
    from pytest_isolate.session.network.host_ports import Door, HostPorts
    from pytest_isolate.session.sandbox_pool import Sandboxes
    from pytest_isolate.spec.spec import Spec


class Slot:
    """What one run at a time needs of this process, and gives to the next."""

    def __init__(self, output: int) -> None:
        """:param output: see :class:`~pytest_isolate.sandbox.forker.Forker`."""
        self.forker = Forker(output=output)
        self.stacks = Fd(calls.memfd_create("isolate-stacks"))

    def clear(self) -> None:
        """Before a run."""
        calls.ftruncate(self.stacks, 0)
        calls.lseek(self.stacks, 0, os.SEEK_SET)

    def close(self) -> None:
        """Close what it has open; the run has ended."""
        calls.close(self.stacks)


class Start(NamedTuple):
    """A run that is prepared: all is there but the child."""

    slot: Slot
    held: Held
    body: Callable[[Line], None]
    channel: Channel
    line: Line
    doors: tuple[Door, ...]
    complete: Callable[[], None] | None
    own: tuple[Fd, ...]  #: descriptors that no other run may have, beside those of sandbox, slot and channel

    def private(self) -> tuple[Fd, ...]:
        """All descriptors that no other run may have, but those of sandbox and slot."""
        channel = self.channel
        return (*self.own, channel.reader, channel.writer, channel.control, channel.childs_control)

    def cancel(self) -> None:
        """Close what was opened for it; there is no child."""
        self.channel.close()


class RunStarter:
    """Starts runs in sandboxes that are held."""

    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        host_ports: HostPorts,
        heap: Heap,
        handlers: Handlers,
        stall_timeout: float,
        output: int,
    ) -> None:
        """:param stall_timeout: seconds that a run may wait for locks which nobody can release; 0: for ever.

        :param output: see :class:`~pytest_isolate.sandbox.forker.Forker`.
        """
        self.sandboxes, self.host_ports, self.heap, self.handlers = sandboxes, host_ports, heap, handlers
        self.stall_timeout, self.output = stall_timeout, output
        self.slots: list[Slot] = []  #: all that there are

    def new_slot(self) -> Slot:
        """One more; the receiver's to close."""
        self.slots.append(Slot(self.output))
        return self.slots[-1]

    def prepare(self, slot: Slot, held: Held, body: Callable[[Line], None], *, own: tuple[Fd, ...] = ()) -> Start:
        """Do what comes before the fork of ``body(line)`` into ``held``; to be launched, or cancelled.

        :param own: descriptors that no other run may have.
        """
        spec, plan = held.spec, held.plan
        slot.clear()
        doors = self.host_ports.doors(spec) if plan.joins(Clone.NEWNET) else ()
        complete = self._completion(spec, plan, doors, init=1 if plan.joins(Clone.NEWPID) else held.sandbox.init_pid)
        channel = Channel()
        line = Line(channel.writer, channel.childs_control, spec, held.as_run.keys)
        return Start(
            slot=slot, held=held, body=body, channel=channel, line=line, doors=doors, complete=complete, own=own
        )

    def launch(
        self,
        starts: Sequence[Start],
        *,
        at_once: int = 1,
        alone: bool = True,
        quiet: bool = True,
        others: Sequence[Watcher] = (),
        secrets: Sequence[Fd] = (),
    ) -> list[Watcher | SetupError | None]:
        """Fork them; who gets the watchers waits for the runs, or kills them. An error: there is no child.

        None: it is left for another call, as so many run already; see :func:`fork_together`.

        :param at_once: how many of them may run at a time.
        :param alone: this process has nothing to do until the run has ended, and may lend it its terminal.
        :param quiet: return when there is something to do; see :func:`fork_together`.
        :param others: those that watch runs which go on.
        :param secrets: descriptors that must not reach any of them, beside those of sandboxes: those of other runs.
        :raises KeyboardInterrupt: it came before the fork, and they have been cancelled.
        """
        child.flush()  # else its copy of the buffers would come out twice
        try:
            number, interrupt = self._fork(starts, at_once, quiet=quiet, others=others, secrets=secrets)
        except BaseException:
            for start in starts:
                start.cancel()
            raise
        if number >= 0:  # in the child, in which as little as may be is done: see child_protocol.py
            start = starts[number]
            child.run(start.line, start.body, start.slot.stacks, start.complete)
        self.heap.forked(starts[0].slot.forker.seconds())
        return [self._watch(start, interrupt, alone=alone) for start in starts]

    def _watch(self, start: Start, interrupt: KeyboardInterrupt | None, *, alone: bool) -> Watcher | SetupError | None:
        held, sandbox = start.held, start.held.sandbox
        try:
            forked = start.slot.forker.forked(interrupt)
        except SetupError as error:
            start.cancel()
            return error
        if forked is None:
            return None
        start.channel.close_childs_ends()
        processes = Processes(
            pid=forked.pid,
            pidfd=forked.pidfd,
            init=(sandbox.init_pid, sandbox.init_pidfd),
            contained=held.plan.joins(Clone.NEWPID),
            groups=self.sandboxes.tree,
            name=sandbox.name,
        )
        return Watcher(
            processes=processes,
            reader=start.channel.reader,
            control=start.channel.control,
            stacks=start.slot.stacks,
            figures=partial(self.sandboxes.tree.read, sandbox.name),
            timeout=held.spec.limits.timeout,
            stall_timeout=self.stall_timeout,
            started=forked.at,
            ended=forked.ended,
            has_terminal=alone,
            interrupt=forked.interrupt,
        )

    def entry(self, held: Held, cwd: str) -> Entry:
        """How a process is to enter a sandbox that is held."""
        return Entry(
            init_pidfd=held.sandbox.init_pidfd,
            attach=held.sandbox.attach,
            close=(),
            cwd=cwd,
            cores=held.as_run.cores,
            rlimits=held.as_run.rlimits(),
        )

    def _fork(
        self, starts: Sequence[Start], at_once: int, *, quiet: bool, others: Sequence[Watcher], secrets: Sequence[Fd]
    ) -> tuple[int, KeyboardInterrupt | None]:
        """The number of this one in a child; -1 in this process."""
        cwd = calls.getcwd()
        for start in starts:
            beside = [fd for other in starts if other is not start for fd in other.private()]
            stacks = [slot.stacks for slot in self.slots if slot is not start.slot]
            held, channel = start.held, start.channel
            close = (*self._secrets(start.doors), *stacks, *secrets, *beside, channel.reader, channel.control)
            entry = self.entry(held, cwd)._replace(close=close, landlock=held.as_run.writable)
            start.slot.forker.prepare(held.plan, entry, channel.control)
        now = calls.monotonic() if others else 0.0
        looks = [look - now for other in others if (look := other.next_look()) is not None]
        patience = [self._patience(start.held.spec) for start in starts]
        timeouts = [start.held.spec.limits.timeout for start in starts]
        with self.handlers.held(), child.collector_off():
            number, interrupt = fork_together(
                [start.slot.forker for start in starts],
                at_once=at_once,
                quiet=quiet,
                others=[fd for other in others for fd in other.polled],
                patience=_least([*patience, *looks]),
                timeout=_least(timeouts),
            )
            if number >= 0:
                child.freeze()
            return number, interrupt

    def _patience(self, spec: Spec) -> float | None:
        """Seconds that nothing is to be done here in: until the time-out, or until somebody looks whether it stalls."""
        return _least([spec.limits.timeout, self.stall_timeout / 3 or None])

    def _completion(self, spec: Spec, plan: Plan, doors: tuple[Door, ...], init: int) -> Callable[[], None] | None:
        """What is left to do to the sandbox from inside, if anything is. :param init: its PID 1, as called inside."""
        if not plan.libraries and not doors:
            return None

        def complete() -> None:
            _settle(spec, plan)
            self.host_ports.open(doors, init)

        return complete

    def _secrets(self, doors: tuple[Door, ...]) -> tuple[Fd, ...]:
        """Descriptors that lead out of the sandbox, to another one or to the builder, and must not reach the test."""
        return (*self.sandboxes.secrets(), *self.host_ports.secrets(doors))


def _least(seconds: Sequence[float | None]) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def _settle(spec: Spec, plan: Plan) -> None:
    """In the child: find in the image what the host's interpreter goes on needing, and set the image's variables."""
    if plan.libraries:
        from pytest_isolate.images.root.child_setup import settle  # noqa: PLC0415 - loaded by the parent, only with an image

        settle(dict(plan.moved), plan.libraries)
        names = {name for name, _ in spec.env}
        os.environ.update({name: value for name, value in plan.env if name not in names})
