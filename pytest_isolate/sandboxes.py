"""Plans, and the sandboxes that are built by them: hands out one that stands ready, joined to its network.

What to build is a Plan, made once per Spec; what can be built is found out once, by trying
(:mod:`~pytest_isolate.probe`). The builder process (``_native/builder.c``) keeps sandboxes ready, and takes them down.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_isolate import cgroups, native, planning, scratch
from pytest_isolate.bridges import Bridges, Place
from pytest_isolate.builder import Builder, Sandbox
from pytest_isolate.degrade import Degraded, degraded
from pytest_isolate.errors import ImageError, SetupError, UnsupportedError
from pytest_isolate.keys import IMAGES
from pytest_isolate.native import Fd
from pytest_isolate.plan import Plan
from pytest_isolate.probe import probe
from pytest_isolate.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.images.root import Root
    from pytest_isolate.nat import Uplink

_AS_ASKED = Degraded()
_DEPTH = 2  # sandboxes ready: one that is handed out while a test runs, and one more


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A sandbox in use."""

    spec: Spec
    plan: Plan
    as_run: Degraded  #: what of the Spec is not in force
    sandbox: Sandbox
    builder: Builder
    place: Place | None = None  #: on its bridge, if it is on one
    bridges: Bridges | None = None


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
        """See :class:`~pytest_isolate.session.Keeper`.

        :param undo: takes what ends and removes all of it.
        """
        self._degrade = degrade
        self._places = (os.getcwd(), *places)
        self._images = images or os.path.abspath(IMAGES)
        self._roots: dict[tuple[str, tuple[str, ...]], Root | SetupError] = {}
        self._plans: dict[Spec, tuple[Plan, int]] = {}  # the number is that of _builder_of(spec)
        self._degraded: dict[Spec, Degraded] = {}  # those that are not wholly in force
        self._bridges: Bridges | None = None  # started for the first bridged Spec
        self._uplink: Uplink | None = None  # to the outside; looked for when the first Spec asks for it
        self._no_uplink: UnsupportedError | None = None  # why there is none
        self._held: dict[int, Sandbox] = {}  # by number
        self._builder = Builder()
        undo.callback(self._close_builders)
        self.tree = cgroups.find(
            session=session,
            worker=worker,
            given=cgroup,
            announce=lambda groups: self._builder.clean_up_after(groups, []),
        )
        undo.callback(self.tree.close)
        self.host = probe(self._builder.attempt, important=self._places)
        if self.host.scratch:
            mine = undo.enter_context(scratch.directory(self.host.scratch, f"{session}.{worker}"))
            self.host = replace(self.host, scratch=mine)
        self._arm_builder()

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
        self._plan(spec)

    def prepare(self, spec: Spec) -> int:
        """Have sandboxes for ``spec`` made ahead of need; how many are ready.

        :raises UnsupportedError: the host can't enforce ``spec``.
        """
        _, number = self._plan(spec)
        builder = self._builder_of(spec)
        builder.prepare(number, _DEPTH)
        return builder.settle()

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
        as_run = self._degraded.get(spec, _AS_ASKED)
        held = Held(spec=spec, plan=plan, as_run=as_run, sandbox=sandbox, builder=builder)
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

    def ask(self, ahead: Spec | None) -> None:
        """Have the next run's sandbox handed over while this one is waited for."""
        if ahead is not None and ahead in self._plans:
            number = self._plans[ahead][1]
            with contextlib.suppress(SetupError):  # a builder that has died is noticed, and replaced, by the next run
                self._builder_of(ahead).ask(number, ahead=number, depth=_DEPTH - 1)

    def bridges(self) -> Bridges:
        """What makes bridges, and connects sandboxes to them.

        :raises UnsupportedError: there can be none here.
        """
        self.check(Spec(network="bridge"))
        if self._bridges is None or self._bridges.lack:
            raise UnsupportedError("network", *self.degraded(Spec(network="bridge"))[0][1:], "See docs/networks.md.")
        return self._bridges

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that lead into a sandbox, or to a builder or the broker, and must not reach a test."""
        fds = [Fd(self._builder.fileno())]
        for sandbox in self._held.values():
            fds += [sandbox.init_pidfd, *sandbox.attach, *([] if sandbox.scratch is None else [sandbox.scratch])]
        return (*fds, *(() if self._bridges is None else self._bridges.secrets()))

    # ---------------------------------------------------------------------------------------------- making plans

    def _plan(self, spec: Spec) -> tuple[Plan, int]:
        if spec not in self._plans:
            missing = self._missing(spec)
            if missing and not self._degrade:
                raise missing[0]
            groups = self.tree.dirs(spec.limits, degrade=self._degrade)
            uplink = self._uplink if spec.network == "nat" else None
            plan = planning.plan_for(spec, self.host, groups, self._root(spec), uplink)
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
        return self._degraded.get(spec, _AS_ASKED).keys

    def _missing(self, spec: Spec) -> list[UnsupportedError]:
        lacks = [UnsupportedError(key, lack.reason, lack.remedy) for key, lack in planning.unsupported(spec, self.host)]
        own_network = not any(lack.key in ("isolate", "network") for lack in lacks)
        if spec.bridge is not None and own_network:
            if self._bridges is None:
                self._bridges = Bridges(real_root=self.host.real_root)
                self._arm_builder()
            lacks += [] if self._bridges.lack is None else [self._bridges.lack]
        if spec.network == "nat" and own_network:
            if self._uplink is None and self._no_uplink is None:
                self._look_outside()
            lacks += [] if self._no_uplink is None else [self._no_uplink]
        return [*lacks, *self.tree.missing(spec.limits)]

    def _look_outside(self) -> None:
        from pytest_isolate import outside  # noqa: PLC0415 - only if a test asks for it

        try:
            self._uplink = outside.look(self.host, self._builder.attempt)
        except UnsupportedError as error:
            self._no_uplink = error

    # ------------------------------------------------------------------------------------------------- builders

    def _sandbox(self, spec: Spec) -> Sandbox:
        number = self._plan(spec)[1]
        builder = self._builder_of(spec)
        try:
            return builder.get(number)
        except SetupError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # says nothing of the host, and a look at it would fail too
                raise
            if gone := [path for path in spec.writable if not os.path.exists(path)]:
                raise _cannot_bind(gone[0]) from error
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
        fresh = replace(probe(self._builder.attempt, important=self._places), scratch=self.host.scratch)
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


def _cannot_bind(path: str) -> SetupError:
    """Not told at collection, as a wider-scoped fixture may make it. No lack of the host's, which could be skipped."""
    remedy = "Make it before the test, in a wider-scoped fixture at the latest."
    return SetupError("bind through (writable=)", path, errno.ENOENT, remedy)
