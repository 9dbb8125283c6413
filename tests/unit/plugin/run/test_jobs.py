from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_isolate.plugin.run import jobs


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight cores, and a folder for cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
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
