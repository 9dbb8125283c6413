"""When the heap is searched for what becomes immortal, and that threads go on meanwhile."""

from __future__ import annotations

import sys

import pytest

from pytest_isolate.linux import native
from pytest_isolate.session.immortal_heap import ImmortalHeap
from tests.support.immortals import HAS_IMMORTALS, needs_immortals, run


class Searches:
    """How often the heap is searched."""

    def __init__(self, *, wanted: bool = True, count: int | None = 1) -> None:
        self.number = 0
        self.heap = ImmortalHeap(wanted=wanted, count=lambda: count, search=self._search)

    def _search(self, _: list[object], count: int) -> int:
        self.number += count
        return 0

    def run(self, runs: int) -> int:
        for number in range(runs):
            self.heap.settle(runs - number)
        return self.number


def test_the_heap_is_searched_once_where_many_runs_follow() -> None:
    assert Searches().run(1000) == 1


def test_it_is_searched_again_where_many_modules_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches()
    assert searches.run(500) == 1
    for number in range(30):
        monkeypatch.setitem(sys.modules, f"late_module_{number}", sys)
    assert searches.run(500) == 2


def test_it_is_left_alone_where_few_runs_follow() -> None:
    assert Searches().run(30) == 0


def test_it_is_left_alone_where_the_user_says_so() -> None:
    assert Searches(wanted=False).run(1000) == 0


def test_it_is_left_alone_where_this_python_has_no_immortal_objects() -> None:
    assert Searches(count=None).run(1000) == 0


def test_python_is_believed_only_where_it_keeps_the_count() -> None:
    assert native.keeps_count(0xFFFFFFFF) == HAS_IMMORTALS
    assert not native.keeps_count(12345)


@needs_immortals
def test_fifty_busy_threads_go_on_while_the_heap_is_searched() -> None:
    run("""
        import threading
        class Shared:
            def method(self, *values): return [len(value) for value in values]
        def work():
            def inner(number): return Shared().method(str(number), (number, Shared), {number: inner})
            while not ended.is_set():
                totals.append(sum(sum(inner(number)) for number in range(100)))
                for number in range(10): classes.append(type("Made", (Shared,), {"number": number}))
                del classes[:-5]
        ended, totals, classes = threading.Event(), [], []
        threads = [threading.Thread(target=work) for _ in range(50)]
        for thread in threads: thread.start()
        for number in range(20):
            for more in range(20): sys.modules[f"more_{number}_{more}"] = sys
            search()
        ended.set()
        for thread in threads: thread.join()
        assert len(set(totals)) == 1
    """)
