"""Limits as files and their contents, and which of them cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_isolate.cgroups import v1, v2
from pytest_isolate.cgroups.worker_group import Tenant, quota
from pytest_isolate.cgroups.worker_tree import WorkerTree
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.spec import Limits
from tests.support.cgroup_host import Host

MB = 1 << 20
ALL = {"memory", "swap", "cpu", "cpuset", "pids", "io"}
FULL = Limits(memory=50 * MB, swap=MB, cpus=0.5, cpuset="0", pids=20, io_read=100, io_write=200)


def test_v2_limits_come_in_the_order_that_the_kernel_takes() -> None:
    assert v2.limit_files(FULL, ALL, ("8:0",)) == [
        ("memory.max", "52428800"),
        ("memory.swap.max", "1048576"),
        ("?memory.oom.group", "1"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "20"),
        ("io.max", "8:0 rbps=100 wbps=200"),
    ]
    assert v2.limit_files(Limits(), ALL, ("8:0",)) == []
    assert v2.limit_files(FULL, set(), ("8:0",)) == []
    assert v2.limit_files(Limits(io_write=7), ALL, ("8:0", "9:1"))[1] == ("io.max", "9:1 wbps=7")


def test_v1_caps_memory_before_the_sum_with_swap() -> None:
    assert v1.limit_files(FULL, ALL, ("8:0",)) == [
        ("memory.limit_in_bytes", "52428800"),
        ("memory.memsw.limit_in_bytes", "53477376"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("pids.max", "20"),
        ("blkio.throttle.read_bps_device", "8:0 100"),
        ("blkio.throttle.write_bps_device", "8:0 200"),
    ]
    assert v1.limit_files(Limits(), ALL, ("8:0",)) == []


def test_v1_writes_no_quota_that_one_above_makes_void() -> None:
    assert v1.limit_files(Limits(cpus=2), {"cpu"}, (), ceiling=1.5) == []
    assert v1.limit_files(Limits(cpus=1), {"cpu"}, (), ceiling=1.5) != []


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(0.5, (50_000, 100_000)), (4, (400_000, 100_000)), (0.005, (5000, 1_000_000)), (0.0001, (1000, 1_000_000))],
)
def test_a_quota_stays_within_what_the_kernel_takes(cpus: float, expected: tuple[int, int]) -> None:
    assert quota(cpus) == expected


class Fake(v2.V2):
    """A branch that has been probed, without a kernel."""

    def __init__(self, *usable: str) -> None:
        super(v2.V2, self).__init__("/base", Tenant(session="s", worker="w"))
        self.usable = set(usable)

    def cores(self) -> str:
        return "0-1"


LACKS = dict.fromkeys((*ALL, "freezer"), ("it was tried: EPERM", "Do this."))


def test_each_limit_that_cannot_hold_is_named_by_its_key(host: Host) -> None:
    tree = WorkerTree([Fake("memory", "swap")], LACKS, host.proc)
    assert [error.key for error in tree.missing(FULL)] == ["cpus", "cpuset", "pids", "io"]
    assert tree.missing(Limits(memory=MB)) == ()
    assert tree.dirs(FULL, degrade=True)[0].files[0] == ("memory.max", str(50 * MB))
    with pytest.raises(UnsupportedError, match=r"^cpus cannot be enforced here: it was tried: EPERM\. Do this\.$"):
        tree.dirs(FULL)


@pytest.mark.parametrize(
    ("swaps", "limits", "keys"),
    [
        ("Filename Type\n", Limits(memory=MB), []),  # no swap to escape to
        ("Filename Type\n/dev/sda2 partition\n", Limits(memory=MB), ["swap"]),
        ("Filename Type\n/dev/sda2 partition\n", Limits(), []),
        ("Filename Type\n/dev/sda2 partition\n", Limits(swap=MB), []),
        ("Filename Type\n", Limits(memory=MB, swap=MB), []),
    ],
)
def test_a_kernel_without_swap_accounting_matters_where_there_is_swap(
    host: Host, swaps: str, limits: Limits, keys: list[str]
) -> None:
    (host.proc / "swaps").write_text(swaps)
    tree = WorkerTree([Fake("memory")], LACKS, host.proc)
    assert [error.key for error in tree.missing(limits)] == keys


def test_cores_outside_of_the_group_s_are_refused_and_left_out_when_degrading(host: Host) -> None:
    tree = WorkerTree([Fake("cpuset")], LACKS, host.proc)
    with pytest.raises(UnsupportedError, match=r"no core 2-3\. Choose among 0-1\."):
        tree.dirs(Limits(cpuset="1-3"))
    assert tree.dirs(Limits(cpuset="1-3"), degrade=True)[0].files == ()
    assert tree.dirs(Limits(cpuset="1"))[0].files == (("cpuset.cpus", "1"),)


def test_a_figure_that_the_kernel_does_not_give_is_none(host: Host, tmp_path: Path) -> None:
    branch = Fake("memory")
    branch.worker = str(tmp_path / "w")
    test = tmp_path / "w" / "t1"
    test.mkdir(parents=True)
    (test / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (test / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (test / "io.stat").write_text("8:0 rbytes=10 wbytes=20\n")
    reading = WorkerTree([branch], LACKS, host.proc).read("t1")
    assert (reading.cpu_seconds, reading.oom_kills, reading.pids_denied) == (1.5, 2, 0)
    assert (reading.memory_peak_bytes, reading.pids_peak, reading.read_bytes) == (None, None, None)
    branch.usable.add("io")
    (test / "io.stat").write_text("8:0 rbytes=10 wbytes=20\n254:1 rbytes=1 wbytes=2 rios=9\n7:0 rbytes=500 wbytes=0\n")
    branch._stacked = {"8:0": False, "254:1": False}
    reading = WorkerTree([branch], LACKS, host.proc).read("t1")
    assert (reading.read_bytes, reading.write_bytes) == (11, 22)
