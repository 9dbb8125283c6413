from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_isolate.plugin.run.schedule import Begin, Schedule, Wish

AHEAD, IN_TURN, BARRIER, ALONE = Begin.AHEAD, Begin.IN_TURN, Begin.BARRIER, Begin.ALONE


class Line:
    """A session's tests, which note how often they are asked."""

    def __init__(self, *wishes: Begin | Wish, jobs: int = 2, ahead: int = 100, memory: int | None = None) -> None:
        self.wishes = [wish if isinstance(wish, Wish) else Wish(wish) for wish in wishes]
        self.asked: list[int] = []
        self.schedule = Schedule(jobs=jobs, ahead=ahead, memory=memory, ask=self._ask)

    def _ask(self, turn: int) -> Wish | None:
        self.asked.append(turn)
        return self.wishes[turn] if turn < len(self.wishes) else None

    def begin(self, turn: int, *, row: int = 1) -> list[int]:
        """A test has its turn and begins; what begins beside it."""
        self.schedule.have_turn(turn)
        self.schedule.begun(turn, self.wishes[turn])
        return self.chosen(row)

    def end(self, turns: Iterable[int]) -> list[int]:
        for turn in turns:
            self.schedule.ended(turn)
        return self.chosen()

    def chosen(self, row: int = 1) -> list[int]:
        found = []
        while (turn := self.schedule.choose(row)) is not None:
            found.append(turn)
        return found


def test_as_many_begin_as_there_are_jobs() -> None:
    tests = Line(*[AHEAD] * 6, jobs=3)
    assert tests.begin(0) == [1, 2]
    assert tests.end([1]) == [3]
    assert tests.end([0, 2]) == [4, 5]


def test_several_for_each_job_begin_where_they_follow_one_another() -> None:
    tests = Line(*[AHEAD] * 9, jobs=2)
    assert tests.begin(0, row=3) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("place", [0, 1])
def test_one_that_counts_as_two_stands_in_no_row(place: int) -> None:
    wishes = [Wish(AHEAD)] * 9
    wishes[place] = Wish(AHEAD, jobs=2)
    assert Line(*wishes, jobs=3).begin(0, row=3) == [1]


def test_a_row_stays_within_the_memory() -> None:
    tests = Line(*[Wish(AHEAD, memory=3)] * 9, jobs=2, memory=10)
    assert tests.begin(0, row=3) == [1, 2]


def test_none_begins_that_there_is_not() -> None:
    tests = Line(AHEAD)
    assert tests.begin(0) == []


def test_no_more_wait_for_their_turn_than_are_allowed_to() -> None:
    tests = Line(*[AHEAD] * 9, ahead=3)
    assert tests.begin(0) == [1]
    assert tests.end([1]) == [2]
    assert tests.end([2]) == [3]
    assert tests.end([3]) == []
    tests.schedule.have_turn(1)
    assert tests.chosen() == [4]


def test_one_that_waits_for_its_turn_keeps_no_other_from_beginning() -> None:
    tests = Line(AHEAD, IN_TURN, AHEAD)
    assert tests.begin(0) == [2]


@pytest.mark.parametrize("barrier", [BARRIER, ALONE])
def test_none_begins_before_a_barrier_has_its_turn(barrier: Begin) -> None:
    tests = Line(AHEAD, barrier, AHEAD, AHEAD)
    assert tests.begin(0) == []
    assert tests.end([0]) == []
    assert tests.begin(1) == [2]


def test_what_a_test_wants_is_asked_once_in_a_turn_and_anew_in_the_next() -> None:
    tests = Line(AHEAD, BARRIER, AHEAD)
    tests.begin(0)
    tests.chosen()
    assert tests.asked == [1]
    tests.wishes[1] = Wish(AHEAD)
    tests.schedule.have_turn(0)
    assert tests.end([0]) == [1, 2]


def test_one_that_needs_two_cores_counts_as_two_jobs() -> None:
    tests = Line(AHEAD, Wish(AHEAD, jobs=2), AHEAD, jobs=2)
    assert tests.begin(0) == []
    assert tests.end([0]) == [1]
    assert tests.end([1]) == [2]


def test_one_that_needs_more_cores_than_there_are_jobs_runs_beside_none() -> None:
    tests = Line(AHEAD, Wish(AHEAD, jobs=9), AHEAD, jobs=2)
    tests.begin(0)
    assert tests.end([0]) == [1]
    assert tests.chosen() == []


def test_memory_of_all_stays_within_the_machines() -> None:
    tests = Line(*[Wish(AHEAD, memory=40)] * 4, Wish(AHEAD, memory=500), AHEAD, jobs=8, memory=100)
    assert tests.begin(0) == [1]
    assert tests.end([0]) == [2]
    assert tests.end([1]) == [3]
    assert tests.end([2]) == []
    assert tests.end([3]) == [4, 5]


def test_a_test_of_another_loop_may_have_its_turn_out_of_order() -> None:
    tests = Line(*[AHEAD] * 8, ahead=2)
    tests.begin(0)
    tests.end([0, 1])
    tests.end([2])
    assert tests.begin(6) == [7]
