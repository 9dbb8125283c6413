"""One of several runs at a time: what it has, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_isolate.linux.native import Fd
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.sandbox.watcher import Watcher
    from pytest_isolate.session.held import Held
    from pytest_isolate.session.run_starter import Slot, Start


@dataclass(eq=False, slots=True, kw_only=True)
class Run:
    """One of several: it is prepared, or goes on, or has ended, or was thrown away."""

    held: Held
    slot: Slot
    start: Start
    keep: str | None  #: see :meth:`pytest_isolate.session.keeper.Keeper.run`
    at_end: Callable[[], object]
    #: Called at its turn with what came of it, while its sandbox is still there; its answer is the outcome.
    at_turn: Callable[[Held, Outcome], Outcome] | None = None
    watcher: Watcher = field(init=False)  #: once it goes on
    #: Once it has ended; None: it is to be run again by itself, as it wants the terminal, or its sandbox broke.
    outcome: Outcome | None = None

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that no other run may have, while it goes on."""
        return (*self.start.own, self.watcher.reader, self.watcher.control, self.watcher.processes.pidfd)
