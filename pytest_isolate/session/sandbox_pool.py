"""Plans, and the sandboxes that are built by them: hands out one that stands ready, joined to its network.

What to build is a Plan, made once per Spec; what can be built is found out once, by trying
(:mod:`~pytest_isolate.sandbox.probe.probe`). The builder process (``_native/builder.c``) keeps sandboxes ready, and
takes them down.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pytest_isolate.cgroups import discovery
from pytest_isolate.linux import device_nodes, files, native
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan import devices, planner, requirements
from pytest_isolate.plan.degraded import Degraded, degraded
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox import scratch_dir
from pytest_isolate.sandbox.builder import Builder, Sandbox
from pytest_isolate.sandbox.probe.probe import probe, renewed
from pytest_isolate.sandbox.probe.trees import without_removed
from pytest_isolate.session.builders import Builders
from pytest_isolate.session.held import Held
from pytest_isolate.session.image_roots import ImageRoots
from pytest_isolate.session.network.bridges import Bridges
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from pytest_isolate.spec.keys import IMAGES
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.plan.host import Host
    from pytest_isolate.plan.pasta import Uplink

_AS_ASKED = Degraded()
_DEPTH = 2  # sandboxes ready: one that is handed out while a test runs, and one more


class PlannedSpec(NamedTuple):
    """A Plan, made once for a Spec, and its number with the builder that builds by it."""

    plan: Plan
    number: int
    as_run: Degraded = _AS_ASKED  #: what of the Spec is not in force


class Sandboxes:
    """What the host allows, the builders and the bridges of one keeper."""

    def __init__(
        self,
        undo: contextlib.ExitStack,
        *,
        session: str,
        cgroup: str | None,
        worker: str,
        degrade: bool,
        places: tuple[str, ...],
        images: str | None,
    ) -> None:
        """See :class:`~pytest_isolate.session.keeper.Keeper`.

        :param undo: takes what ends and removes all of it.
        :raises SetupError: among others, if the builder has died.
        """
        self._degrade = degrade
        self._places = (calls.getcwd(), *places)
        self._images = ImageRoots(images or os.path.abspath(IMAGES), self._places)
        self._planned: dict[Spec, PlannedSpec] = {}
        self._uplink: Uplink | None = None  # to the outside; looked for when the first Spec asks for it
        self._no_uplink: UnsupportedError | None = None  # why there is none
        self._held: dict[int, Sandbox] = {}  # by number
        self.builders = Builders()
        undo.callback(self.builders.close)
        self.tree = discovery.find(
            session=session,
            worker=worker,
            given=cgroup,
            announce=lambda groups: self.builders.clean_up_after(groups, []),
        )
        undo.callback(self.tree.close)
        self.host = probe(self.builders.own.attempt, important=self._places)
        if self.host.scratch:
            mine = undo.enter_context(scratch_dir.directory(self.host.scratch, f"{session}.{worker}"))
            self.host = self.host._replace(scratch=mine)
        self.builders.clean_up_after(self.tree.cleanup, [self.host.scratch] if self.host.scratch else [])

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

    def check(self, spec: Spec) -> None:
        """Make the Plan of ``spec``; unpack its image, if it has one that is not yet.

        :raises UnsupportedError: if this host can't enforce ``spec`` (never when degrading).
        :raises SetupError: if its image can't be used.
        """
        self._plan_once(spec)

    def hold(self, spec: Spec) -> Held:
        """A sandbox that stands ready, joined to its network, for any number of runs; to be given back.

        :raises UnsupportedError: the host can't enforce ``spec``. :raises SetupError: it could not be built.
        """
        try:
            return self._hold(spec)
        except SetupError:
            if self.builders.drop_dead_bridges():  # the next run makes others
                self._planned = {other: planned for other, planned in self._planned.items() if other.bridge is None}
            raise

    def _hold(self, spec: Spec) -> Held:
        sandbox = self._sandbox(spec)
        planned, builder, bridges = self._plan_once(spec), self.builders.of(spec), self.builders.bridges_of(spec)
        held = Held(
            spec=spec, plan=planned.plan, as_run=planned.as_run, sandbox=sandbox, builder=builder, tree=self.tree
        )
        self._held[sandbox.number] = sandbox
        if bridges is None:
            return held
        try:
            return held._replace(place=bridges.join(sandbox, spec.bridge or "", spec.hostname), bridges=bridges)
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

    def ask(self, ahead: Spec | None, ready: int = _DEPTH - 1) -> None:
        """Have the next run's sandbox handed over while this one is waited for. :param ready: how many more to make."""
        if ahead is not None and (planned := self._planned.get(ahead)) is not None:
            with contextlib.suppress(SetupError):  # a builder that has died is noticed, and replaced, by the next run
                self.builders.of(ahead).ask(planned.number, ahead=planned.number, depth=ready)

    def bridges(self) -> Bridges:
        """What makes bridges, and connects sandboxes to them.

        :raises UnsupportedError: there can be none here.
        """
        self.check(Spec(network="bridge"))
        if (bridges := self.builders.bridges) is None or bridges.lack:
            raise UnsupportedError(
                "network",
                *self.degraded(Spec(network="bridge"))[0][1:],
                "See `python -m pytest_isolate docs networks`.",
            )
        return bridges

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that lead into a sandbox, or to a builder or the broker, and must not reach a test."""
        held = [fd for sandbox in self._held.values() for fd in sandbox.descriptors]
        return (*self.builders.secrets(), *held)

    def _plan_once(self, spec: Spec) -> PlannedSpec:
        planned = self._planned.get(spec)  # one look, as to hash a Spec takes longer than a system call
        if planned is None:
            planned = self._planned[spec] = self._make_plan(spec)
        return planned

    def _make_plan(self, spec: Spec) -> PlannedSpec:
        missing = self.missing(spec)
        if missing and not self._degrade:
            raise missing[0]
        nodes = [node for path in spec.devices for node in device_nodes.find(path)]
        if not (builder := self.builders.of(spec)).alive():  # at collection nobody has missed it yet
            self._replace(builder)
        groups = self.tree.dirs(spec.limits, devices=devices.rules(nodes), degrade=self._degrade)
        uplink = self._uplink if spec.network == "nat" else None
        root = self._images.root(spec, self.builders.own, self.host)
        plan = planner.plan_for(spec, self.host, groups, root, uplink, nodes=nodes)
        number, as_run = self.builders.of(spec).add(plan), _AS_ASKED
        if missing:
            as_run = degraded(missing, spec, self.host, plan.join, landlock=native.landlock_version())
        return PlannedSpec(plan, number, as_run)

    def degraded(self, spec: Spec) -> tuple[tuple[str, str], ...]:
        """Keys of ``spec`` that are not in force, each with the reason and what stands in; empty unless degrading.

        :raises UnsupportedError: the host can't enforce ``spec``, and the keeper was not told to degrade.
        """
        return self.as_run(spec).keys

    def as_run(self, spec: Spec) -> Degraded:
        """How ``spec`` is run here. :raises UnsupportedError: see :meth:`degraded`."""
        return self._plan_once(spec).as_run

    def missing(self, spec: Spec) -> list[UnsupportedError]:
        """What of ``spec`` this host can't enforce."""
        lacks = [
            UnsupportedError(key, lack.reason, lack.remedy) for key, lack in requirements.unsupported(spec, self.host)
        ]
        own_network = not any(lack.key in ("isolate", "network") for lack in lacks)
        if spec.bridge is not None and own_network:
            bridges = self.builders.start_bridges(real_root=self.host.real_root)
            lacks += [] if bridges.lack is None else [bridges.lack]
        if spec.network == "nat" and own_network:
            if self._uplink is None and self._no_uplink is None:
                self._look_outside()
            lacks += [] if self._no_uplink is None else [self._no_uplink]
        lacks += [devices.missing(path) for path in spec.devices if not device_nodes.find(path)]
        return [*lacks, *self.tree.missing(spec.limits)]

    def _look_outside(self) -> None:
        from pytest_isolate.sandbox.probe import nat  # noqa: PLC0415 - only if a test asks for it

        try:
            self._uplink = nat.look(self.host, self.builders.own.attempt)
        except UnsupportedError as error:
            self._no_uplink = error

    def _sandbox(self, spec: Spec) -> Sandbox:
        self._look_at_copies()
        try:
            return self._get(spec)
        except SetupError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # says nothing of the host, and a look at it would fail too
                raise
            if gone := [path for path in spec.writable if not files.exists(path)]:
                raise _cannot_bind(gone[0]) from None  # the builder's own words are about one of its steps
            builder = self.builders.of(spec)
            if not builder.alive():
                self._replace(builder)
                if error.errno == errno.ETIMEDOUT:  # another try might take as long
                    raise
            elif error.errno != errno.ESRCH and not self._host_has_changed(spec):  # ESRCH: PID 1 was killed
                raise
        return self._get(spec)

    def _get(self, spec: Spec) -> Sandbox:
        """A sandbox from its builder; without directories that somebody has removed since they were looked at."""
        while True:
            number = self._plan_once(spec).number
            try:
                return self.builders.of(spec).get(number)
            except SetupError as error:
                if (host := without_removed(self.host, error)) is None:
                    raise
                self.host = host
                self._planned.clear()

    def _look_at_copies(self) -> None:
        """See that no sandbox is handed out with copies of before a fixture has changed the originals."""
        if (host := renewed(self.host, important=self._places)) is not None:
            self.host = host
            self._planned.clear()

    def _replace(self, dead: Builder) -> None:
        fresh = self.builders.replace(dead)
        for spec, planned in self._planned.items():
            if self.builders.of(spec) is fresh:
                self._planned[spec] = planned._replace(number=fresh.add(planned.plan))

    def _host_has_changed(self, spec: Spec) -> bool:
        """Look at the host anew, and forget the Plans if it is not what it was.

        They name mounts, and directories that need a layer of their own, such as other users' in /tmp; one may have
        gone since. What ``spec`` needs was there before; if it fails now, as where memory is short, that is no lack of
        the host's, which would be skipped, or run without a sandbox.
        """
        try:
            fresh = probe(self.builders.own.attempt, important=self._places)._replace(scratch=self.host.scratch)
        except SetupError:  # the builder has died meanwhile, and so has told nothing about the host
            self._replace(self.builders.own)
            return True
        if fresh == self.host or self._is_less(fresh, spec):
            return False
        self.host = fresh
        self._planned.clear()
        self._images.forget()
        return True

    def _is_less(self, fresh: Host, spec: Spec) -> bool:
        """Whether a host seems to allow less than it did."""
        if (fresh.real_root, fresh.namespaces) != (self.host.real_root, self.host.namespaces):
            return True
        return len(requirements.unsupported(spec, fresh)) > len(requirements.unsupported(spec, self.host))


def _cannot_bind(path: str) -> SetupError:
    """Not told at collection, as a higher-scoped fixture may make it. No lack of the host's, which could be skipped."""
    remedy = "Make it before the test, in a higher-scoped fixture at the latest."
    return SetupError("bind through (writable=)", path, errno.ENOENT, remedy)
