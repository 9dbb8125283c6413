from __future__ import annotations

import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.session import leaks, outcome_builder, side_by_side
from pytest_isolate.session.begun_run import Run
from pytest_isolate.session.side_by_side import SideBySide
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec


def run_that_logs(log: list[str], name: str) -> Run:
    """One that goes on."""
    processes = SimpleNamespace(begin_to_kill=lambda: log.append(f"kill {name}"))
    watcher: Any = SimpleNamespace(
        processes=processes, goes_on=lambda: True, kill=lambda: log.append(f"wait for {name}")
    )
    nothing: Any = None
    run = Run(held=nothing, slot=nothing, start=nothing, keep=None, at_end=lambda: None)
    run.watcher = watcher
    return run


def test_runs_that_are_thrown_away_are_all_killed_before_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    starter: Any = SimpleNamespace(new_slot=lambda: None)
    sandboxes: Any = None
    beside = SideBySide(starter, sandboxes, jobs=2)
    monkeypatch.setattr(SideBySide, "_leave", lambda *_: log.append("leave"))
    beside._running += [run_that_logs(log, "a"), run_that_logs(log, "b")]
    beside.discard_all()
    assert log == ["kill a", "kill b", "wait for a", "leave", "wait for b", "leave"]


class Clocked:
    """Stands for all that is below: runs that last as long as they are asked to, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.forked: list[list[str]] = []  # names, by fork
        self.lacking: set[str] = set()  # of which there is no child
        self.sandboxes = SimpleNamespace(hold=lambda _: None, release=lambda _: None, ask=lambda *_, **__: None)
        monkeypatch.setattr(side_by_side, "calls", SimpleNamespace(monotonic=lambda: self.now, close=lambda _: None))
        monkeypatch.setattr(side_by_side, "wait_for_one", self._wait_for_one)
        monkeypatch.setattr(leaks, "are_looked_for", lambda _: False)
        monkeypatch.setattr(outcome_builder, "conclude", lambda *_, **__: SimpleNamespace())

    def new_slot(self) -> object:
        return SimpleNamespace(forker=SimpleNamespace(reap=lambda: None, trouble=lambda: None))

    def prepare(self, slot: object, _held: object, body: object, **_: object) -> object:
        return SimpleNamespace(slot=slot, body=body, own=())

    def launch(self, starts: Sequence[Any], *, at_once: int, quiet: bool, **_: object) -> list[object]:
        """As fork_together: the first that end make room for others of the row, if somebody waits for that."""
        self.forked.append([])
        ends: list[float] = []
        watchers: list[object] = []
        for start in starts:
            if len(ends) == at_once:
                if not quiet or min(ends) > self.now + 0.05:
                    watchers.append(None)
                    continue
                self.now = max(self.now, ends.pop(ends.index(min(ends))))
            self.forked[-1].append(start.body[0])
            if start.body[0] in self.lacking:
                watchers.append(SetupError("fork", "", errno.ENOMEM))
            else:
                watchers.append(self._watcher(start))
                ends.append(self.now + start.body[1])
        return watchers

    def _watcher(self, start: Any) -> object:
        started, ends = self.now, self.now + start.body[1]
        return SimpleNamespace(
            started=started,
            ends=ends,
            begin=lambda: None,
            goes_on=lambda: self.now < ends,
            finish=lambda: SimpleNamespace(wall_seconds=ends - started),
            processes=SimpleNamespace(pidfd=-1),
            reader=-1,
            control=-1,
            wants_terminal=False,
            interrupt=None,
        )

    def _wait_for_one(self, watchers: Sequence[Any], seconds: float | None) -> None:
        first = min(watcher.ends for watcher in watchers)
        self.now = first if seconds is None else min(first, self.now + seconds)


def report_all(clocked: Clocked, lengths: dict[str, float]) -> list[str]:
    """Run these with two jobs as pytest does, each reported at its turn; the names of those that were run."""
    below: Any = clocked
    beside = SideBySide(below, below.sandboxes, jobs=2)
    to_come, reported = list(lengths), []
    begun: dict[str, Run] = {}

    def begin() -> None:
        while to_come and len(begun) - sum(not beside._goes_on(run) for run in begun.values()) < 2 * beside.row:
            name = to_come.pop(0)
            body: Any = (name, lengths[name])
            begun[name] = beside.start(Spec(), body)

    for name in lengths:
        if name not in begun:
            begin()
        if beside.wait_for(begun[name], begin) is not None:
            reported.append(name)
    return reported


def test_short_runs_are_forked_together_when_those_before_have_been_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    names = report_all(clocked, {"a": 0.01, "b": 0.012, "c": 0.008, "d": 0.011, "e": 0.01})
    assert names == ["a", "b", "c", "d", "e"]
    assert clocked.forked == [["a", "b", "c", "d", "e"]]
    assert clocked.now == pytest.approx(100.028)


@pytest.mark.parametrize(("jobs", "row"), [(1, 4), (2, 4), (4, 4), (8, 2), (16, 1), (64, 1)])
def test_a_row_is_short_where_there_are_many_jobs(jobs: int, row: int) -> None:
    starter: Any = None
    assert SideBySide(starter, starter, jobs=jobs).row == row


def test_a_row_has_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    names = report_all(clocked, {f"{number}": 0.01 for number in range(11)})
    assert len(names) == 11
    assert [len(row) for row in clocked.forked] == [8, 3]


def test_a_long_run_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    report_all(clocked, {"long": 1.0, "a": 0.01, "b": 0.01, "c": 0.01})
    assert clocked.forked == [["long", "a", "b", "c"]]
    assert clocked.now == pytest.approx(101.0)


def test_where_runs_are_long_the_next_begins_before_one_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    lengths = {f"{number}": 0.5 for number in range(4)} | {"last": 0.4}
    report_all(clocked, lengths)
    assert clocked.forked == [["0", "1"], ["2", "3"], ["last"]]
    assert clocked.now == pytest.approx(101.4)


def test_a_run_without_a_child_is_told_apart_from_those_that_were_forked_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocked = Clocked(monkeypatch)
    clocked.lacking = {"a"}
    assert report_all(clocked, {"a": 0.01, "b": 0.01}) == ["b"]
