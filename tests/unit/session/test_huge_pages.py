"""When the heap of a large process is gathered in huge pages, and when it is left alone."""

from __future__ import annotations

from pytest_isolate.session.huge_pages import Heap

_MB = 1 << 20


class Memory:
    """A heap of so many blocks, each of which takes a while to be gathered."""

    def __init__(self, blocks: int, *, seconds: float, works: bool = True) -> None:
        self.blocks, self.seconds, self.works = blocks, seconds, works
        self.now, self.gathered, self.calls = 0.0, 0, 0
        self.aligned: list[int] = []  # how much had been gathered then
        self.forks = 0
        self.inherited: list[int] = []  # how many forks there had been then
        self.heap = Heap(
            self.collapse,
            lambda: self.now,
            lambda: self.blocks * 2 * _MB,
            lambda: self.aligned.append(self.gathered),
            lambda: self.inherited.append(self.forks),
        )

    def collapse(self, start: int, limit: int) -> tuple[int, int, int]:
        self.calls += 1
        tried = min(limit, self.blocks - start)
        self.now += tried * self.seconds
        self.gathered += tried * self.works
        return tried * self.works, tried, (start + tried) % self.blocks

    def run(self, runs: int, *, fork: float, of: int | None = None) -> None:
        """``of`` runs are expected when the first begins."""
        for number in range(runs):
            self.heap.gather((of or runs) - number)
            self.heap.forked(fork)
            self.forks += 1


def test_the_heap_is_gathered_where_many_runs_follow() -> None:
    memory = Memory(100, seconds=0.001)
    memory.run(500, fork=0.01)
    assert memory.gathered == 100


def test_its_newest_block_is_completed_before_that_and_not_again() -> None:
    memory = Memory(100, seconds=0.001)
    memory.run(300, fork=0.01)
    memory.blocks = 200
    memory.run(300, fork=0.01)
    assert memory.aligned == [0]


def test_it_is_left_alone_where_few_runs_follow() -> None:
    memory = Memory(100, seconds=0.001)
    memory.run(15, fork=0.01)
    assert memory.calls == 0
    assert memory.aligned == []
    assert memory.inherited == []


def test_the_page_tables_of_text_are_inherited_from_the_first_fork_on_however_small_the_heap() -> None:
    memory = Memory(1, seconds=0.001)
    memory.run(50, fork=0.01)
    assert memory.inherited == [0]


def test_it_is_left_alone_where_that_costs_more_than_the_runs_to_come_would_save() -> None:
    memory = Memory(100, seconds=0.1)
    memory.run(100, fork=0.01)
    assert memory.gathered == 4  # by which the cost is known


def test_no_test_waits_long_for_it() -> None:
    memory = Memory(1000, seconds=0.005)
    waits = []
    for _ in range(300):
        before = memory.now
        memory.run(1, fork=0.05, of=10_000)
        waits.append(memory.now - before)
    assert memory.gathered == 1000
    assert max(waits) < 0.1


def test_a_kernel_that_cannot_is_asked_once() -> None:
    memory = Memory(100, seconds=0.001, works=False)
    memory.run(500, fork=0.01)
    assert memory.calls == 1


def test_it_is_not_done_again_until_the_heap_has_grown() -> None:
    memory = Memory(100, seconds=0.001)
    memory.run(300, fork=0.01)
    memory.run(300, fork=0.005)
    assert memory.gathered == 100
    memory.blocks = 200
    memory.run(300, fork=0.01)
    assert memory.gathered == 300


def test_it_is_given_up_where_forks_take_longer_afterwards() -> None:
    memory = Memory(100, seconds=0.001)
    memory.run(6, fork=0.01, of=500)
    memory.run(300, fork=0.02)
    memory.blocks = 200
    memory.run(300, fork=0.02)
    assert memory.gathered == 100
