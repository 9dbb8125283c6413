"""The keeper: takes each Spec through a sandbox and says how it ended. One per process that runs tests.

Theory of operation. The builder process (``_native/builder.c``) keeps a sandbox ready for the next test. The keeper
asks for it, forks this process into it (``_native/core.c``), watches the child (:mod:`~pytest_isolate.watch`), reads
the figures, and hands the sandbox back, which the builder takes down while the next test already runs. What to build is
a Plan, made once per Spec; what can be built is found out once, by trying (:mod:`~pytest_isolate.probe`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_isolate import cgroups, guest, logs, native, planning, salvage, scratch
from pytest_isolate.bridges import Bridges, Place
from pytest_isolate.builder import Builder, Sandbox
from pytest_isolate.degrade import Degraded, degraded
from pytest_isolate.errors import ImageError, SetupError, UnsupportedError
from pytest_isolate.guest import Line
from pytest_isolate.heap import Heap
from pytest_isolate.host_ports import Door, HostPorts
from pytest_isolate.images.names import FOLDER
from pytest_isolate.listeners import Lookup
from pytest_isolate.native import Entry, Fd, Forker
from pytest_isolate.outcome import Change, Outcome, Usage
from pytest_isolate.plan import Clone, Plan
from pytest_isolate.probe import probe
from pytest_isolate.spec import Spec
from pytest_isolate.watch import Run

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11; installed wherever types are checked

    from pytest_isolate.images.root import Root

__all__ = ["Keeper", "Line"]

_AS_ASKED = Degraded()
_DEPTH = 2  # sandboxes ready: one that is handed out while a test runs, and one more


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A sandbox in use."""

    spec: Spec
    plan: Plan
    sandbox: Sandbox
    builder: Builder
    place: Place | None = None  #: on its bridge, if it is on one
    bridges: Bridges | None = None


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
    ) -> None:
        """Find out what the host allows and start the builder.

        :param cgroup: path of a delegated cgroup, from the cgroup root (``--isolate-cgroup``).
        :param worker: the xdist worker's id, or any name that is unique in the session.
        :param session: name of the session's cgroup, which an xdist controller hands to its workers; None: a
            session of its own.
        :param degrade: run with what there is where the host lacks something (``--isolate-unsupported=degrade``).
        :param places: directories that tests will write to (the project), beyond those that the host module knows.
        :param images: folder that has the images; None: ``fixtures_images`` of the current one.
        :raises UnsupportedError: no sandbox can be had here at all (unless degrading).
        :raises SpecError: ``cgroup`` can't be used.
        """
        if reason := native.available():
            raise UnsupportedError("isolate", reason, "Install it on Linux, from a wheel or with a C compiler.")
        session = session or cgroups.session_name()
        self._degrade = degrade
        self._places = (os.getcwd(), *places)
        self._images = images or os.path.abspath(FOLDER)
        self._roots: dict[tuple[str, tuple[str, ...]], Root | SetupError] = {}
        self._pid = os.getpid()
        self._plans: dict[Spec, tuple[Plan, int]] = {}  # the number is that of _builder_of(spec)
        self._bridges: Bridges | None = None  # started for the first bridged Spec
        self.networks: set[str] = set()  #: names of those that have nodes
        self._degraded: dict[Spec, Degraded] = {}  # those that are not wholly in force
        self._held: dict[int, Sandbox] = {}  # by number
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._forker = Forker()
            self._heap = Heap()
            self._builder = Builder()
            undo.callback(self._close_builders)
            self._host_ports = HostPorts(Lookup(cgroups.first_process(session), session))
            undo.callback(self._host_ports.close)
            self.tree = cgroups.find(
                session=session,
                worker=worker,
                given=cgroup,
                announce=lambda groups: self._builder.clean_up_after(groups, []),
            )
            undo.callback(self.tree.close)
            self.host = probe(self._attempt, important=self._places)
            if self.host.scratch:
                mine = undo.enter_context(scratch.directory(self.host.scratch, f"{session}.{worker}"))
                self.host = replace(self.host, scratch=mine)
            self._stacks = Fd(os.memfd_create("isolate-stacks"))
            undo.callback(os.close, self._stacks)
            self._arm_builder()
            self._closing = undo.pop_all()

    def __enter__(self) -> Self:
        """The keeper itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`close`."""
        self.close()

    def describe(self) -> str:
        """What is in force, for pytest's header: ``rootless, overlay on /, cgroup v2 (cpu io memory pids)``."""
        parts = [self.host.describe()]
        shown = " ".join(sorted(self.tree.controllers & {"memory", "cpu", "cpuset", "pids", "io"}))
        parts.append(f"cgroup {self.tree.version} ({shown})" if shown else "no cgroup controllers")
        return ", ".join(parts)

    def capabilities(self) -> frozenset[str]:
        """Names of what works here: ``sandbox``, features of the host, and cgroup controllers."""
        sandbox = {"sandbox"} if self.host.sandbox else set()
        return self.host.capabilities() | self.tree.controllers | sandbox

    def look_again(self) -> None:
        """Servers of this session may have come or gone since the last run: ``host_ports`` asks anew."""
        self._host_ports.look_again()

    def check(self, spec: Spec) -> None:
        """Make the Plan of ``spec``; unpack its image, if it has one that is not yet.

        :raises UnsupportedError: if this host can't enforce ``spec`` (never when degrading).
        :raises SetupError: if its image can't be used.
        """
        self._plan(spec)

    def prepare(self, spec: Spec) -> int:
        """Have sandboxes for ``spec`` made ahead of need; how many are ready.

        :raises UnsupportedError: the host can't enforce ``spec``.
        """
        _, number = self._plan(spec)
        builder = self._builder_of(spec)
        builder.prepare(number, _DEPTH)
        return builder.settle()

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
        :raises KeyboardInterrupt: after the sandbox was killed.
        """
        self._plan(spec)
        self._heap.gather(more)
        held = self.hold(spec)
        try:
            return self.run_in(held, body, ahead=ahead, keep=keep)
        finally:
            self.release(held)

    def hold(self, spec: Spec) -> Held:
        """A sandbox that stands ready, joined to its network, for any number of runs; to be given back.

        :raises UnsupportedError: the host can't enforce ``spec``. :raises SetupError: it could not be built.
        """
        try:
            return self._hold(spec)
        except SetupError:
            if (bridges := self._bridges) is not None and not bridges.alive():
                # With the broker all bridges have gone, and their builder is of no use; the next run makes others.
                self._plans = {other: made for other, made in self._plans.items() if other.bridge is None}
                self._bridges = None
                bridges.close()
            raise

    def _hold(self, spec: Spec) -> Held:
        sandbox = self._sandbox(spec)
        plan, _ = self._plan(spec)
        builder, bridges = self._builder_of(spec), self._bridges_of(spec)
        held = Held(spec=spec, plan=plan, sandbox=sandbox, builder=builder)
        self._held[sandbox.number] = sandbox
        if bridges is None:
            return held
        try:
            return replace(held, place=bridges.join(sandbox, spec.bridge or "", spec.hostname), bridges=bridges)
        except BaseException:
            self.release(held)
            raise

    def release(self, held: Held) -> None:
        """Take a sandbox down: all its processes die. Returns at once."""
        if held.bridges is not None and held.place is not None:
            held.bridges.leave(held.place)
        self._held.pop(held.sandbox.number, None)
        with contextlib.suppress(SetupError):  # a builder that has died has nothing to take back
            held.builder.done(held.sandbox)

    def run_in(
        self, held: Held, body: Callable[[Line], None], *, ahead: Spec | None = None, keep: str | None = None
    ) -> Outcome:
        """As :meth:`run`, in a sandbox that is held; what it starts and leaves running goes on."""
        try:
            run = self._start(held.spec, held.plan, body, held.sandbox)
            try:
                self._ask(ahead)
                run.wait()
            finally:
                run.kill()
                os.close(run.channel)
                os.close(run.answers)
            return self._outcome(held.spec, held.plan, run, held.sandbox, keep)
        finally:
            self._forker.reap()

    def entry(self, held: Held, cwd: str) -> Entry:
        """How a program is to enter a sandbox that is held (:func:`native.launch_command`)."""
        as_run = self._as_run(held.spec)
        sandbox = held.sandbox
        return Entry(
            init_pidfd=sandbox.init_pidfd,
            attach=sandbox.attach,
            close=(),
            cwd=cwd,
            cores=as_run.cores,
            rlimits=as_run.rlimits(),
        )

    def close(self) -> None:
        """End the builder and remove all that the session made on the host. A forked child must not, and does not."""
        if os.getpid() == self._pid:
            self._closing.close()

    # ---------------------------------------------------------------------------------------------- making plans

    def _plan(self, spec: Spec) -> tuple[Plan, int]:
        if spec not in self._plans:
            missing = self._missing(spec)
            if missing and not self._degrade:
                raise missing[0]
            groups = self.tree.dirs(spec.limits, degrade=self._degrade)
            plan = planning.plan_for(spec, self.host, groups, self._root(spec))
            self._plans[spec] = plan, self._builder_of(spec).add(plan)
            if missing:
                self._degraded[spec] = degraded(missing, spec, self.host, plan.join, landlock=native.landlock_version())
        return self._plans[spec]

    def _root(self, spec: Spec) -> Root | None:
        """The image of ``spec``; looked for once, and unpacked if need be."""
        if spec.image is None or not self.host.sandbox:
            return None
        key = spec.image, spec.writable
        if key not in self._roots:
            from pytest_isolate import unpacking  # noqa: PLC0415 - only if a test has an image

            try:
                self._roots[key] = unpacking.root(
                    os.path.join(self._images, spec.image), self.host, places=self._places, writable=spec.writable
                )
            except ImageError as error:
                self._roots[key] = SetupError("use the image", spec.image, 0, f"Image {error.image}: {error.problem}")
        root = self._roots[key]
        if isinstance(root, SetupError):
            raise root
        return root

    def degraded(self, spec: Spec) -> tuple[tuple[str, str], ...]:
        """Keys of ``spec`` that are not in force, each with the reason and what stands in; empty unless degrading.

        :raises UnsupportedError: the host can't enforce ``spec``, and the keeper was not told to degrade.
        """
        self._plan(spec)
        return self._as_run(spec).keys

    def _as_run(self, spec: Spec) -> Degraded:
        return self._degraded.get(spec, _AS_ASKED)

    def _missing(self, spec: Spec) -> list[UnsupportedError]:
        lacks = [UnsupportedError(key, lack.reason, lack.remedy) for key, lack in planning.unsupported(spec, self.host)]
        if spec.bridge is not None and not any(lack.key in ("isolate", "network") for lack in lacks):
            if self._bridges is None:
                self._bridges = Bridges(real_root=self.host.real_root)
                self._arm_builder()
            lacks += [] if self._bridges.lack is None else [self._bridges.lack]
        return [*lacks, *self.tree.missing(spec.limits)]

    def _attempt(self, plan: Plan) -> SetupError | None:
        """Build a sandbox only to see whether it can be built."""
        try:
            self._builder.done(self._builder.get(self._builder.add(plan)))
        except SetupError as error:
            return error
        return None

    # ------------------------------------------------------------------------------------------------- one run

    def _sandbox(self, spec: Spec) -> Sandbox:
        number = self._plan(spec)[1]
        builder = self._builder_of(spec)
        try:
            return builder.get(number)
        except SetupError:
            if not builder.alive():
                self._replace(builder)
            elif not self._host_has_changed():
                raise
        number = self._plan(spec)[1]
        return self._builder_of(spec).get(number)

    def _replace(self, dead: Builder) -> None:
        """Somebody killed it. Its sandboxes have gone with it; a new one goes on, so one test is lost at most."""
        dead.close()
        if dead is self._builder:
            self._builder = fresh = Builder(first=dead.last + 1000)
        else:
            assert self._bridges is not None
            fresh = self._bridges.new_builder(dead.last + 1000)
        for spec, (plan, _) in self._plans.items():
            if self._builder_of(spec) is fresh:
                self._plans[spec] = plan, fresh.add(plan)
        self._arm_builder()

    def bridges(self) -> Bridges:
        """What makes bridges, and connects sandboxes to them.

        :raises UnsupportedError: there can be none here.
        """
        self.check(Spec(network="bridge"))
        if self._bridges is None or self._bridges.lack:
            raise UnsupportedError("network", *self.degraded(Spec(network="bridge"))[0][1:], "See docs/networks.md.")
        return self._bridges

    def _builder_of(self, spec: Spec) -> Builder:
        bridges = self._bridges_of(spec)
        return self._builder if bridges is None or bridges.builder is None else bridges.builder

    def _bridges_of(self, spec: Spec) -> Bridges | None:
        """What connects the sandboxes of ``spec``; None if nothing does, or can here."""
        return None if spec.bridge is None or self._bridges is None or self._bridges.lack else self._bridges

    def _host_has_changed(self) -> bool:
        """Look at the host anew, and forget the Plans if it is not what it was.

        They name mounts, and directories that need a layer of their own, such as other users' in /tmp; one may have
        gone since.
        """
        fresh = replace(probe(self._attempt, important=self._places), scratch=self.host.scratch)
        if not self._builder.alive():  # it has died meanwhile, and so has told nothing about the host
            self._replace(self._builder)
            return True
        if fresh == self.host:
            return False
        self.host = fresh
        self._plans.clear()
        self._degraded.clear()
        self._roots.clear()
        return True

    def _ask(self, ahead: Spec | None) -> None:
        """Have the next run's sandbox handed over while this one is waited for."""
        if ahead is not None and ahead in self._plans:
            number = self._plans[ahead][1]
            with contextlib.suppress(SetupError):  # a builder that has died is noticed, and replaced, by the next run
                self._builder_of(ahead).ask(number, ahead=number, depth=_DEPTH - 1)

    def _close_builders(self) -> None:
        """The present ones: one that was killed has been replaced."""
        if self._bridges is not None:
            self._bridges.close()
        self._builder.close()

    def _arm_builder(self) -> None:
        """Each removes it, as nobody knows which of them is the last."""
        bridged = None if self._bridges is None else self._bridges.builder
        for builder in (self._builder, bridged):
            if builder is not None:
                builder.clean_up_after(self.tree.cleanup, [self.host.scratch] if self.host.scratch else [])

    def _start(self, spec: Spec, plan: Plan, body: Callable[[Line], None], sandbox: Sandbox) -> Run:
        os.ftruncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else the child's copy of the buffer would come out twice
        doors = self._host_ports.doors(spec) if plan.join & Clone.NEWNET else ()
        reader, writer = os.pipe()
        asked, answers = os.pipe()
        os.set_blocking(answers, False)
        as_run = self._as_run(spec)
        entry = Entry(
            init_pidfd=sandbox.init_pidfd,
            attach=sandbox.attach,
            close=(*self._secrets(doors), Fd(reader), Fd(answers)),
            cwd=os.getcwd(),
            cores=as_run.cores,
            rlimits=as_run.rlimits(),
            landlock=as_run.writable,
        )
        try:
            with logs.held():
                started = time.monotonic()
                pid, pidfd = self._forker.fork(plan, entry)
        except SetupError:
            for end in (reader, writer, asked, answers):
                os.close(end)
            raise
        if pid == 0:
            init = 1 if plan.join & Clone.NEWPID else sandbox.init_pid

            def complete() -> None:
                _settle(spec, plan)
                self._host_ports.open(doors, init)

            line = Line(Fd(writer), Fd(asked), spec, as_run.keys)
            guest.run(line, body, self._stacks, complete)
        self._heap.forked(time.monotonic() - started)
        os.close(writer)
        os.close(asked)
        return Run(
            pid=pid,
            pidfd=pidfd,
            channel=Fd(reader),
            answers=Fd(answers),
            stacks=self._stacks,
            name=sandbox.name,
            init=(sandbox.init_pid, sandbox.init_pidfd),
            contained=bool(plan.join & Clone.NEWPID),
            groups=self.tree,
            timeout=spec.limits.timeout,
            started=started,
        )

    def _secrets(self, doors: Sequence[Door]) -> tuple[Fd, ...]:
        """Descriptors that lead out of the sandbox, to another one or to the builder, and must not reach the test."""
        fds = [Fd(self._builder.fileno())]
        for sandbox in self._held.values():
            fds += [sandbox.init_pidfd, *sandbox.attach, *([] if sandbox.scratch is None else [sandbox.scratch])]
        forwarder = self._host_ports.fileno()  # where there are doors, the child uses and closes it
        if not doors and forwarder is not None:
            fds.append(Fd(forwarder))
        return (*fds, *(() if self._bridges is None else self._bridges.secrets()))

    def _outcome(self, spec: Spec, plan: Plan, run: Run, sandbox: Sandbox, keep: str | None) -> Outcome:
        if trouble := self._forker.trouble() or run.refused:
            raise trouble
        if run.init_died:
            raise SetupError(
                "keep the sandbox alive", f"PID 1, {sandbox.init_pid} outside", 0, "It was killed from outside."
            )
        figures = self.tree.read(sandbox.name)
        cpu = figures.cpu_seconds
        if cpu is None and run.rusage is not None:  # without a cgroup: the test and the children that it waited for
            cpu = run.rusage.ru_utime + run.rusage.ru_stime
        assert run.status is not None
        return Outcome(
            spec=spec,
            usage=Usage(
                wall_seconds=run.wall_seconds,
                cpu_seconds=cpu,
                memory_peak_bytes=figures.memory_peak_bytes,
                pids_peak=figures.pids_peak,
                read_bytes=figures.read_bytes,
                write_bytes=figures.write_bytes,
                changes=_changes(plan, sandbox),
            ),
            exit_status=os.WEXITSTATUS(run.status) if os.WIFEXITED(run.status) else None,
            signal=os.WTERMSIG(run.status) if os.WIFSIGNALED(run.status) else None,
            complete=run.complete and run.status == 0,
            timed_out=run.timed_out,
            oom_kills=figures.oom_kills,
            pids_denied=figures.pids_denied,
            messages=tuple(run.messages),
            error=run.error,
            stacks=run.read_stacks(),
            processes=run.processes,
            lost=_kept(plan, sandbox, keep),
            degraded=self._as_run(spec).keys,
        )


def _settle(spec: Spec, plan: Plan) -> None:
    """In the child: find in the image what the host's interpreter goes on needing, and set the image's variables."""
    if plan.libraries:
        from pytest_isolate.images.settle import settle  # noqa: PLC0415 - loaded by the parent, only with an image

        settle(dict(plan.moved), plan.libraries)
        names = {name for name, _ in spec.env}
        os.environ.update({name: value for name, value in plan.env if name not in names})


def _kept(plan: Plan, sandbox: Sandbox, keep: str | None) -> tuple[str, ...]:
    """Copy out what is to be kept; what could not be."""
    if keep is None or sandbox.scratch is None:
        return ()
    return tuple(salvage.take_new(sandbox.scratch, plan.layers, keep))


def _changes(plan: Plan, sandbox: Sandbox) -> tuple[Change, ...] | None:
    if sandbox.scratch is None:
        return None
    found: list[Change] = []
    for layer in plan.layers:
        if layer.lowers:
            from pytest_isolate.images.changed import changes  # noqa: PLC0415 - only if a test has an image

            found += changes(sandbox.scratch, layer)
        else:
            found += native.changes(sandbox.scratch, layer) or []
    return tuple(found)
