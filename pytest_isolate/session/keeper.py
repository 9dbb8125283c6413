"""The keeper: takes each Spec through a sandbox and says how it ended. One per process that runs tests.

Theory of operation. A sandbox stands ready for the next test (:mod:`~pytest_isolate.session.sandbox_pool`). The keeper
asks for it, forks this process into it (``_native/fork.c``), watches the child
(:mod:`~pytest_isolate.sandbox.watcher`), reads the figures, and hands the sandbox back, which is taken down while the
next test already runs.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from pytest_isolate.cgroups import session_names
from pytest_isolate.linux import databases, native
from pytest_isolate.linux.calls import calls
from pytest_isolate.sandbox import child
from pytest_isolate.sandbox.channel import Line
from pytest_isolate.sandbox.forker import Entry
from pytest_isolate.sandbox.outcome import Outcome
from pytest_isolate.session import leaks, outcome_builder, second_try
from pytest_isolate.session.held import Held
from pytest_isolate.session.huge_pages import Heap
from pytest_isolate.session.immortal_heap import ImmortalHeap
from pytest_isolate.session.interrupted import Interrupted
from pytest_isolate.session.logging_locks import Handlers
from pytest_isolate.session.network.host_ports import HostPorts
from pytest_isolate.session.network.session_listeners import Lookup
from pytest_isolate.session.run_starter import RunStarter
from pytest_isolate.session.sandbox_pool import Sandboxes
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from pytest_isolate.spec.spec import Spec
from pytest_isolate.spec.values import JOBS_MOST

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_isolate.session.side_by_side import SideBySide

#: Sandboxes for one test: its own, which was lost, one that was being made, and those ahead of need, which may have
#: gone with it: where several tests run at a time, there are as many as that.
_TRIES = 2 + JOBS_MOST
#: What setns(2) and fork(2) answer where PID 1 has ended (pid_namespaces(7)).
_NOBODY_ENTERED = (errno.ESRCH, errno.ENOMEM)


class Keeper:
    """Builds sandboxes and runs payloads in them, one after another, in the process that made it.

    :param cgroup: path of a delegated cgroup, from the cgroup root (``--isolate-cgroup``).
    :param worker: the xdist worker's id, or any name that is unique in the session.
    :param session: name of the session's cgroup, which an xdist controller hands to its workers; None: a
        session of its own.
    :param degrade: run with what there is where the host lacks something (``--isolate-unsupported=degrade``).
    :param places: directories that tests will write to (the project), beyond those that the host module knows.
    :param images: folder that has the images; None: ``fixtures_images`` of the current one.
    :param opened: host ports of every run beside those of its spec; looked at before each.
    :param hidden: ports of this session's servers that are not for runs.
    :param stall_timeout: seconds that a run may wait for locks which nobody can release; 0: for ever.
    :param output: descriptor for the last message of this process, if its fork does not come back.
    :param immortal: make functions, classes and constants immortal where that pays.
    :param lasting: instances that last as long as this process, which then become so, too.
    :raises UnsupportedError: no sandbox can be had here at all (unless degrading).
    :raises SpecError: ``cgroup`` can't be used.
    """

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
        hidden: Collection[int] = (),
        stall_timeout: float = 60.0,
        output: int = 2,
        immortal: bool = True,
        lasting: Callable[[], list[object]] = list,
    ) -> None:
        """Find out what the host allows and start the builder."""
        if reason := native.available():
            raise UnsupportedError("isolate", reason, native.remedy())
        session = session or session_names.session_name()
        self._pid = calls.getpid()
        self.networks: set[str] = set()  #: names of those that have nodes
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._heap = Heap()
            self._immortal = ImmortalHeap(wanted=immortal, lasting=lasting)
            lookup = Lookup(session_names.first_process(session), session, hidden=hidden)
            self._host_ports = HostPorts(lookup, opened)
            undo.callback(self._host_ports.close)
            self.sandboxes = second_try.if_killed(
                undo,
                partial(
                    Sandboxes,
                    session=session,
                    cgroup=cgroup,
                    worker=worker,
                    degrade=degrade,
                    places=places,
                    images=images,
                ),
            )
            self._starter = RunStarter(
                sandboxes=self.sandboxes,
                host_ports=self._host_ports,
                heap=self._heap,
                handlers=Handlers(),
                stall_timeout=stall_timeout,
                output=output,
            )
            self._slot = self._starter.new_slot()
            undo.callback(self._slot.close)
            child.prepare(self._slot.stacks)
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
        at_end: Callable[[Held, Outcome], Outcome] | None = None,
    ) -> Outcome:
        """Fork ``body(line)`` into a fresh sandbox and wait for its end.

        :param body: what to run; :class:`~pytest_isolate.sandbox.channel.Line` adds to ``Outcome.messages``.
        :param ahead: the spec of the run after this one, if it is known, so that its sandbox is built meanwhile.
        :param keep: a directory of the host; what the run puts there under new names is copied out.
        :param more: how many runs are likely to follow, for what pays only in the long run.
        :param at_end: called with what came of the run while its sandbox is still there; its answer is returned.
        :raises UnsupportedError: the host can't enforce ``spec``.
        :raises SetupError: the sandbox could not be built, or it broke while the test ran.
        :raises Interrupted: by Ctrl-C; the run has been interrupted, too, and was killed if it went on.
        :raises KeyboardInterrupt: by a second Ctrl-C; the sandbox has been killed.
        """
        self.sandboxes.check(spec)
        self.settle(more)
        for tries in range(_TRIES):
            held = self.sandboxes.hold(spec)
            try:
                outcome = self._run_watched(held, body, ahead, keep)
                return outcome if at_end is None else at_end(held, outcome)
            except SetupError as error:
                # Killed while it stood ready, as by a suite that ends all processes of a name: no test has seen it.
                if tries + 1 == _TRIES or error.errno not in _NOBODY_ENTERED or held.sandbox.alive():
                    raise
            finally:
                self.sandboxes.release(held)
        raise AssertionError("the last try returns or raises")

    def _run_watched(self, held: Held, body: Callable[[Line], None], ahead: Spec | None, keep: str | None) -> Outcome:
        if not leaks.are_looked_for(held):
            return self.run_in(held, body, ahead=ahead, keep=keep)
        from pytest_isolate.sandbox import leak_look  # noqa: PLC0415 - only if it is asked for

        outcome = self.run_in(held, leak_look.watched(body), ahead=ahead, keep=keep)
        return leaks.complete(outcome, held)

    def run_in(
        self, held: Held, body: Callable[[Line], None], *, ahead: Spec | None = None, keep: str | None = None
    ) -> Outcome:
        """As :meth:`run`, in a sandbox that is held; what it starts and leaves running goes on."""
        self.sandboxes.ask(ahead)
        try:
            (watcher,) = self._starter.launch([self._starter.prepare(self._slot, held, body)])
            assert watcher is not None  # it is the only one
            if isinstance(watcher, SetupError):
                raise watcher
            try:
                ended = watcher.wait()
            finally:
                watcher.kill()
                calls.close(watcher.reader)
                calls.close(watcher.control)
            outcome = outcome_builder.conclude(held, ended, self._slot.forker.trouble(), keep)
            if outcome.interrupted:
                raise Interrupted(outcome)
            return outcome
        finally:
            self._slot.forker.reap()

    def settle(self, more: int) -> None:
        """Prepare this process's memory for ``more`` forks, as far as that pays."""
        self._immortal.settle(more)
        self._heap.gather(more)

    def side_by_side(self, jobs: int) -> SideBySide:
        """For runs at the same time, ``jobs`` at most; to be closed before the keeper."""
        from pytest_isolate.session.side_by_side import SideBySide  # noqa: PLC0415 - only if it is asked for

        return SideBySide(self._starter, self.sandboxes, jobs)

    def reaches_out(self, spec: Spec) -> bool:
        """Whether a run of ``spec`` reaches servers of the host, or a database that this process has open."""
        return bool(self._host_ports.doors(spec)) or databases.is_one_open()

    def entry(self, held: Held, cwd: str) -> Entry:
        """How a program is to enter a sandbox that is held (:func:`native.launch_command`)."""
        return self._starter.entry(held, cwd)

    def close(self) -> None:
        """End the builder and remove all that the session made on the host. A forked child must not, and does not."""
        if calls.getpid() == self._pid:
            self._closing.close()
