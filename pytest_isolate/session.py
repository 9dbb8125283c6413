"""The keeper: takes each Spec through a sandbox and says how it ended. One per process that runs tests.

Theory of operation. A sandbox stands ready for the next test (:mod:`~pytest_isolate.sandboxes`). The keeper asks for
it, forks this process into it (``_native/core.c``), watches the child (:mod:`~pytest_isolate.watch`), reads the
figures, and hands the sandbox back, which is taken down while the next test already runs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from pytest_isolate import cgroups, guest, native, tally
from pytest_isolate.errors import SetupError, UnsupportedError
from pytest_isolate.guest import Line
from pytest_isolate.heap import Heap
from pytest_isolate.host_ports import Door, HostPorts
from pytest_isolate.listeners import Lookup
from pytest_isolate.logs import Handlers
from pytest_isolate.native import Entry, Fd, Forker
from pytest_isolate.outcome import Outcome
from pytest_isolate.plan import Clone, Plan
from pytest_isolate.sandboxes import Held, Sandboxes
from pytest_isolate.spec import Spec
from pytest_isolate.watch import Run

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11; installed wherever types are checked

__all__ = ["Interrupted", "Keeper", "Line"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, while a run went on that has been ended; :attr:`outcome` is what came of it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Keeper:
    """Builds sandboxes and runs payloads in them, one after another, in the process that made it."""

    def __init__(
        self,
        *,
        cgroup: str | None = None,
        worker: str = "main",
        session: str | None = None,
        degrade: bool = False,
        places: tuple[str, ...] = (),
        images: str | None = None,
        opened: Collection[int] = (),
    ) -> None:
        """Find out what the host allows and start the builder.

        :param cgroup: path of a delegated cgroup, from the cgroup root (``--isolate-cgroup``).
        :param worker: the xdist worker's id, or any name that is unique in the session.
        :param session: name of the session's cgroup, which an xdist controller hands to its workers; None: a
            session of its own.
        :param degrade: run with what there is where the host lacks something (``--isolate-unsupported=degrade``).
        :param places: directories that tests will write to (the project), beyond those that the host module knows.
        :param images: folder that has the images; None: ``fixtures_images`` of the current one.
        :param opened: host ports of every run beside those of its spec; looked at before each.
        :raises UnsupportedError: no sandbox can be had here at all (unless degrading).
        :raises SpecError: ``cgroup`` can't be used.
        """
        if reason := native.available():
            raise UnsupportedError("isolate", reason, "Install it on Linux, from a wheel or with a C compiler.")
        session = session or cgroups.session_name()
        self._pid = os.getpid()
        self.networks: set[str] = set()  #: names of those that have nodes
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._forker = Forker()
            self._heap = Heap()
            self._handlers = Handlers()
            self._host_ports = HostPorts(Lookup(cgroups.first_process(session), session), opened)
            undo.callback(self._host_ports.close)
            self._stacks = Fd(os.memfd_create("isolate-stacks"))
            undo.callback(os.close, self._stacks)
            self.sandboxes = Sandboxes(
                undo,
                session=session,
                cgroup=cgroup,
                worker=worker,
                degrade=degrade,
                places=places,
                images=images,
            )
            self._closing = undo.pop_all()

    def __enter__(self) -> Self:
        """The keeper itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`close`."""
        self.close()

    def look_again(self) -> None:
        """Servers of this session may have come or gone since the last run: ``host_ports`` asks anew."""
        self._host_ports.look_again()

    def describe(self) -> str:
        """See :meth:`Sandboxes.describe`."""
        return self.sandboxes.describe()

    def check(self, spec: Spec) -> None:
        """See :meth:`Sandboxes.check`."""
        self.sandboxes.check(spec)

    def degraded(self, spec: Spec) -> tuple[tuple[str, str], ...]:
        """See :meth:`Sandboxes.degraded`."""
        return self.sandboxes.degraded(spec)

    def run(
        self,
        spec: Spec,
        body: Callable[[Line], None],
        *,
        ahead: Spec | None = None,
        keep: str | None = None,
        more: int = 0,
    ) -> Outcome:
        """Fork ``body(line)`` into a fresh sandbox and wait for its end.

        :param body: what to run; :class:`~pytest_isolate.guest.Line` passes plain data to ``Outcome.messages``.
        :param ahead: the spec of the run after this one, if it is known, so that its sandbox is built meanwhile.
        :param keep: a directory of the host; what the run puts there under new names is copied out.
        :param more: how many runs are likely to follow, for what pays only in the long run.
        :raises UnsupportedError: the host can't enforce ``spec``.
        :raises SetupError: the sandbox could not be built, or it broke while the test ran.
        :raises Interrupted: by Ctrl-C; the run has been interrupted, too, and was killed if it went on.
        :raises KeyboardInterrupt: by a second Ctrl-C; the sandbox has been killed.
        """
        self.sandboxes.check(spec)
        self._heap.gather(more)
        held = self.sandboxes.hold(spec)
        try:
            return self.run_in(held, body, ahead=ahead, keep=keep)
        finally:
            self.sandboxes.release(held)

    def run_in(
        self, held: Held, body: Callable[[Line], None], *, ahead: Spec | None = None, keep: str | None = None
    ) -> Outcome:
        """As :meth:`run`, in a sandbox that is held; what it starts and leaves running goes on."""
        self.sandboxes.ask(ahead)
        try:
            run = self._start(held, body)
            try:
                run.wait()
            finally:
                run.kill()
                os.close(run.channel)
                os.close(run.bell)
            outcome = self._outcome(held, run, keep)
            if outcome.interrupted:
                raise Interrupted(outcome)
            return outcome
        finally:
            self._forker.reap()

    def entry(self, held: Held, cwd: str) -> Entry:
        """How a program is to enter a sandbox that is held (:func:`native.launch_command`)."""
        return Entry(
            init_pidfd=held.sandbox.init_pidfd,
            attach=held.sandbox.attach,
            close=(),
            cwd=cwd,
            cores=held.as_run.cores,
            rlimits=held.as_run.rlimits(),
        )

    def close(self) -> None:
        """End the builder and remove all that the session made on the host. A forked child must not, and does not."""
        if os.getpid() == self._pid:
            self._closing.close()

    def _start(self, held: Held, body: Callable[[Line], None]) -> Run:
        spec, plan, sandbox, as_run = held.spec, held.plan, held.sandbox, held.as_run
        os.ftruncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else the child's copy of the buffer would come out twice
        doors = self._host_ports.doors(spec) if plan.joins(Clone.NEWNET) else ()
        contained = plan.joins(Clone.NEWPID)
        complete = self._completion(spec, plan, doors, init=1 if contained else sandbox.init_pid)
        ends = reader, writer, bell, rope = _line()
        line = Line(writer, rope, spec, as_run.keys)
        entry = Entry(
            init_pidfd=sandbox.init_pidfd,
            attach=sandbox.attach,
            close=(*self._secrets(doors), reader, bell),
            cwd=os.getcwd(),
            cores=as_run.cores,
            rlimits=as_run.rlimits(),
            landlock=as_run.writable,
        )
        try:
            with self._handlers.held():
                started, interrupt = time.monotonic(), None
                try:
                    pid, pidfd = self._forker.fork(plan, entry, bell=bell, timeout=spec.limits.timeout)
                except KeyboardInterrupt as error:
                    if (child := self._forker.child()) is None:
                        raise
                    (pid, pidfd), interrupt = child, error
        except BaseException:
            for end in ends:
                os.close(end)
            raise
        if pid == 0:  # in which as little as may be is done: see inside.py
            guest.run(line, body, self._stacks, complete)
        self._heap.forked(self._forker.seconds())
        os.close(writer)
        os.close(rope)
        return Run(
            pid=pid,
            pidfd=pidfd,
            channel=reader,
            bell=bell,
            stacks=self._stacks,
            name=sandbox.name,
            init=(sandbox.init_pid, sandbox.init_pidfd),
            contained=contained,
            groups=self.sandboxes.tree,
            timeout=spec.limits.timeout,
            started=started,
            interrupt=interrupt,
        )

    def _completion(self, spec: Spec, plan: Plan, doors: tuple[Door, ...], init: int) -> Callable[[], None] | None:
        """What is left to do to the sandbox from inside, if anything is. :param init: its PID 1, as called inside."""
        if not plan.libraries and not doors:
            return None

        def complete() -> None:
            _settle(spec, plan)
            self._host_ports.open(doors, init)

        return complete

    def _secrets(self, doors: Sequence[Door]) -> tuple[Fd, ...]:
        """Descriptors that lead out of the sandbox, to another one or to the builder, and must not reach the test."""
        forwarder = self._host_ports.fileno()  # where there are doors, the child uses and closes it
        ports = [] if doors or forwarder is None else [Fd(forwarder)]
        return (*self.sandboxes.secrets(), *ports)

    def _outcome(self, held: Held, run: Run, keep: str | None) -> Outcome:
        if trouble := self._forker.trouble() or run.refused:
            raise run.interrupt or trouble
        if run.init_died:
            pid = held.sandbox.init_pid
            raise SetupError("keep the sandbox alive", f"PID 1, {pid} outside", 0, "It was killed from outside.")
        return tally.outcome(held, run, self.sandboxes.tree.read(held.sandbox.name), keep)


def _line() -> tuple[Fd, Fd, Fd, Fd]:
    """What the child is heard by: both ends of a pipe (:class:`Line`'s channel), then of a socket, ours first."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # it rings when the pipe is full
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    return Fd(reader), Fd(writer), Fd(ours.detach()), Fd(theirs.detach())


def _settle(spec: Spec, plan: Plan) -> None:
    """In the child: find in the image what the host's interpreter goes on needing, and set the image's variables."""
    if plan.libraries:
        from pytest_isolate.images.settle import settle  # noqa: PLC0415 - loaded by the parent, only with an image

        settle(dict(plan.moved), plan.libraries)
        names = {name for name, _ in spec.env}
        os.environ.update({name: value for name, value in plan.env if name not in names})
