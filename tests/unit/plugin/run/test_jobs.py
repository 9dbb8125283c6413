from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_isolate.plugin.run import jobs


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight cores, 4 GB of memory, and a folder for cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}.__getitem__)
    monkeypatch.setattr(jobs, "_CGROUPS", str(tmp_path))
    monkeypatch.setattr(jobs, "_OWN", str(tmp_path / "own"))
    (tmp_path / "own").write_text("")
    return tmp_path


@pytest.mark.usefixtures("cores")
def test_as_many_as_there_are_cores_shared_by_workers() -> None:
    assert jobs.count(None, workers=1) == 8
    assert jobs.count(None, workers=3) == 2
    assert jobs.count(None, workers=20) == 1
    assert jobs.count(5, workers=3) == 5


def test_the_smallest_quota_above_counts(cores: Path) -> None:
    (cores / "own").write_text("0::/a/b\n")
    (cores / "a" / "b").mkdir(parents=True)
    (cores / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert jobs.count(None, workers=1) == 8
    (cores / "a" / "cpu.max").write_text("350000 100000\n")
    assert jobs.count(None, workers=1) == 3


def test_a_quota_of_v1_counts(cores: Path) -> None:
    (cores / "own").write_text("4:memory:/x\n3:cpu,cpuacct:/\n")
    (cores / "cpu").mkdir()
    (cores / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (cores / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert jobs.count(None, workers=1) == 8
    (cores / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    assert jobs.count(None, workers=1) == 1


def test_no_more_than_there_is_memory_for(cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 MB for each."""
    (cores / "own").write_text("4:memory:/x\n0::/a\n")
    for folder, name in (("memory/x", "memory.limit_in_bytes"), ("a", "memory.max")):
        (cores / folder).mkdir(parents=True)
        (cores / folder / name).write_text("max\n" if name == "memory.max" else f"{2**63 - 4096}\n")
    assert jobs.count(None, workers=1) == 8
    (cores / "a" / "memory.max").write_text(f"{3 << 30}\n")
    assert jobs.count(None, workers=1) == 6
    (cores / "memory" / "x" / "memory.limit_in_bytes").write_text(f"{2 << 30}\n")
    assert jobs.count(None, workers=1) == 4
    assert jobs.count(None, workers=2) == 2
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert jobs.count(None, workers=1) == 1
    assert jobs.count(5, workers=1) == 5


@pytest.mark.usefixtures("cores")
def test_no_more_than_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(200)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 30}.__getitem__)
    assert jobs.count(None, workers=1) == 32
