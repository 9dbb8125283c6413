"""A sandbox in use, and what can be done to it from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_isolate.linux import procfs
from pytest_isolate.sandbox.builder import Builder, Sandbox
from pytest_isolate.spec.errors import SetupError

if TYPE_CHECKING:
    from pytest_isolate.cgroups.interface import CgroupTree, Figures
    from pytest_isolate.plan.degraded import Degraded
    from pytest_isolate.plan.plan import Plan
    from pytest_isolate.session.network.bridges import Bridges, Place
    from pytest_isolate.spec.spec import Spec


class Held(NamedTuple):
    """A sandbox in use."""

    spec: Spec
    plan: Plan
    as_run: Degraded  #: what of the Spec is not in force
    sandbox: Sandbox
    builder: Builder
    tree: CgroupTree
    place: Place | None = None  #: on its bridge, if it is on one
    bridges: Bridges | None = None  #: what connected it; after the broker has died, others connect the next ones

    def freeze(self) -> bool:
        """Stop all its processes; whether the kernel can."""
        return self.tree.freeze(self.sandbox.name)

    def thaw(self) -> None:
        """Undo it."""
        self.tree.thaw(self.sandbox.name)

    def figures(self) -> Figures:
        """What it has used so far."""
        return self.tree.read(self.sandbox.name)

    def processes(self) -> list[int]:
        """Pids of what lives in it, its PID 1 left out."""
        # Without a group of its own, by a look at all processes of the machine, which takes long.
        grouped = bool(self.sandbox.attach)
        found = self.tree.processes(self.sandbox.name) if grouped else procfs.members(self.sandbox.init_pid)
        return [pid for pid in found if procfs.state(pid) not in ("Z", "")]

    def cut(self, other: Held) -> None:
        """Let nothing through between the two. :raises SetupError: with what could not be done."""
        self._change(other, heal=False)

    def heal(self, other: Held) -> None:
        """Undo it. :raises SetupError: with what could not be done."""
        self._change(other, heal=True)

    def _change(self, other: Held, *, heal: bool) -> None:
        assert self.bridges is not None
        assert self.place is not None
        assert other.place is not None
        if other.bridges is not self.bridges:
            step = f"change what passes between {self.place.name} and {other.place.name}"
            raise SetupError(step, "", 0, "The broker of networks died since one was made; make both nodes anew.")
        self.bridges.cut(self.place, other.place, heal=heal)
