"""Which test to begin next, where several run at a time: numbers in, a number out.

Tests have their turns in the order of collection, and are reported then. A test that needs nothing of what is before it
may begin ahead of its turn, beside the tests before it; docs/decisions/side-by-side.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple


class Begin(enum.Enum):
    """When a test may begin."""

    AHEAD = enum.auto()  #: before its turn
    IN_TURN = enum.auto()  #: at its turn, when those after it may have begun
    BARRIER = enum.auto()  #: at its turn, when none after it has begun
    ALONE = enum.auto()  #: as a barrier, and none after it begins before it has ended


class Wish(NamedTuple):
    """What a test wants; made once per test and turn."""

    begin: Begin
    jobs: int = 1  #: as how many it counts
    memory: int = 0  #: bytes that it may use


class Schedule:
    """Numbers the tests of a session by their turns."""

    def __init__(self, *, jobs: int, ahead: int, memory: int | None, ask: Callable[[int], Wish | None]) -> None:
        """:param jobs: how many may run at a time. :param ahead: how many may be begun and not have had their turn.

        :param memory: bytes for all that run at a time.
        :param ask: what the test of a turn wants; None: there is no such test. Asked once in each turn.
        """
        self._jobs = jobs
        self._ahead = ahead
        self._memory = memory
        self._ask = ask
        self._turn = 0
        self._next = 1  # the first test that has not been begun, nor left for its turn
        self._wish: Wish | None = None  # that one's, as asked in this turn
        self._shut = False  # until the next turn, none begins
        self._busy: dict[int, Wish] = {}  # what runs

    def have_turn(self, turn: int) -> None:
        """It is the turn of a test, which begins now if it has not: those after it may follow."""
        self._turn, self._next = turn, max(self._next, turn + 1)
        self._wish, self._shut = None, False

    def choose(self, row: int = 1) -> int | None:
        """The test that is to begin now, ahead of its turn; None: none, until another has ended, or the next turn.

        It counts as begun. :param row: see :meth:`has_room`.
        """
        while not self._shut and self._next - self._turn <= self._ahead:
            self._wish = wish = self._wish or self._ask(self._next)
            if wish is None or wish.begin in (Begin.BARRIER, Begin.ALONE):
                self._shut = True
            elif wish.begin is Begin.AHEAD and not self.has_room(wish, row):
                return None
            else:
                self._next, self._wish = self._next + 1, None
                if wish.begin is Begin.AHEAD:
                    self.begun(self._next - 1, wish)
                    return self._next - 1
        return None

    def has_room(self, wish: Wish, row: int = 1) -> bool:
        """Whether a test may begin beside those that have; one may always that is by itself.

        :param row: how many may have begun for each job, if each test counts as one; they run one after another.
        """
        wishes = [*self._busy.values(), wish]
        jobs = sum(min(each.jobs, self._jobs) for each in wishes)
        memory = sum(each.memory for each in wishes)
        most = self._jobs * (row if jobs == len(wishes) else 1)
        return len(wishes) == 1 or (
            jobs <= most and (self._memory is None or not wish.memory or memory <= self._memory)
        )

    def begun(self, turn: int, wish: Wish) -> None:
        """The test of that turn runs."""
        self._busy[turn] = wish

    def ended(self, turn: int) -> None:
        """It does no more."""
        self._busy.pop(turn, None)
