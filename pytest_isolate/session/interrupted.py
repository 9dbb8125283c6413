"""What a keeper raises at Ctrl-C."""

from __future__ import annotations

from pytest_isolate.sandbox.outcome import Outcome


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, while a run went on that has been ended; :attr:`outcome` is what came of it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome
