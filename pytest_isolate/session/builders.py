"""The builders of one keeper: its own, and that of bridged sandboxes, with the broker that connects them."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.session.network.bridges import Bridges
from pytest_isolate.spec.spec import Spec

_GAP = 1000  # numbers left free, as the directories of a builder that has died may still be there


class Builders:
    """Starts, replaces and ends them."""

    def __init__(self) -> None:
        """:raises SetupError: if the first cannot be started."""
        self.own = Builder()
        self.bridges: Bridges | None = None  #: started for the first bridged Spec
        self._groups: Sequence[str] = ()
        self._trees: Sequence[str] = ()

    def of(self, spec: Spec) -> Builder:
        """The one that builds sandboxes of ``spec``."""
        bridges = self.bridges_of(spec)
        return self.own if bridges is None or bridges.builder is None else bridges.builder

    def bridges_of(self, spec: Spec) -> Bridges | None:
        """What connects the sandboxes of ``spec``; None if nothing does, or can here."""
        return None if spec.bridge is None or self.bridges is None or self.bridges.lack else self.bridges

    def start_bridges(self, *, real_root: bool) -> Bridges:
        """The broker, and without root a builder in its user namespace."""
        if self.bridges is None:
            self.bridges = Bridges(real_root=real_root)
            self._arm()
        return self.bridges

    def drop_dead_bridges(self) -> bool:
        """With the broker all bridges have gone, and their builder is of no use; whether that is so."""
        if self.bridges is None or self.bridges.alive():
            return False
        self.bridges.close()
        self.bridges = None
        return True

    def replace(self, dead: Builder) -> Builder:
        """Somebody killed it, and its sandboxes have gone with it; a new one goes on, so one test is lost at most."""
        dead.close()
        first = dead.last + _GAP
        if dead is self.own:
            self.own = fresh = Builder(first=first)
        else:
            assert self.bridges is not None
            fresh = self.bridges.new_builder(first)
        self._arm()
        return fresh

    def clean_up_after(self, groups: Sequence[str], trees: Sequence[str]) -> None:
        """What each removes if this process is killed, as nobody knows which of them is the last."""
        self._groups, self._trees = groups, trees
        self._arm()

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors of builders and broker, which must not reach a test."""
        return (*self.own.secrets(), *(() if self.bridges is None else self.bridges.secrets()))

    def close(self) -> None:
        """End the present ones: one that was killed has been replaced."""
        if self.bridges is not None:
            self.bridges.close()
        self.own.close()

    def _arm(self) -> None:
        bridged = None if self.bridges is None else self.bridges.builder
        for builder in (self.own, bridged):
            if builder is not None:
                builder.clean_up_after(self._groups, self._trees)
