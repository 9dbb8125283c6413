"""Who descends from whom, as /proc shows it."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_isolate.linux import procfs


def process(proc: Path, pid: int, parent: int) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b (c) S {parent} 1 1 0\n")


def test_descendants_come_after_their_parents_and_strangers_are_left_out() -> None:
    parents = {9: 7, 7: 5, 8: 5, 5: 1, 6: 1, 1: 0}
    assert procfs.descendants(5, parents) == [5, 7, 8, 9]


def test_a_pid_that_is_used_again_meanwhile_ends_the_walk() -> None:
    assert procfs.descendants(5, {5: 7, 7: 5}) == [5, 7]


def test_the_parent_is_read_behind_a_name_with_blanks_and_parentheses(tmp_path: Path) -> None:
    process(tmp_path, 5, 1)
    process(tmp_path, 7, 5)
    (tmp_path / "self").symlink_to("5")
    (tmp_path / "9").mkdir()  # it has ended since it was listed
    assert procfs.parents(tmp_path) == {5: 1, 7: 5}


def test_this_process_runs_and_has_more_mapped_than_resident() -> None:
    assert procfs.state(os.getpid()) == "R"
    assert procfs.own_memory("size") > procfs.own_memory("resident") > 0
