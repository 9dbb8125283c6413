"""Groups on the real kernel: every limit holds, and every figure counts."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.interface import CgroupTree
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.spec import Limits
from tests.support.in_cgroups import MB, made, needs, run, spin, start


def test_memory_over_the_cap_is_killed_and_counted(tree: CgroupTree) -> None:
    needs(tree, "memory", "swap")
    with made(tree, Limits(memory=30 * MB)) as attach:
        status = run(attach, lambda: bytearray(100 * MB))
        reading = tree.read("t1")
    assert status == -signal.SIGKILL
    assert reading.oom_kills >= 1
    assert reading.memory_peak_bytes is None or 29 * MB < reading.memory_peak_bytes <= 30 * MB


def test_memory_below_the_cap_is_left_alone_and_its_peak_known(tree: CgroupTree) -> None:
    needs(tree, "memory")
    with made(tree, Limits(memory=60 * MB)) as attach:
        status = run(attach, lambda: bytearray(20 * MB))
        reading = tree.read("t1")
    assert (status, reading.oom_kills) == (0, 0)
    assert reading.memory_peak_bytes is None or 20 * MB < reading.memory_peak_bytes < 40 * MB


def test_an_oom_kill_takes_the_whole_test_where_the_kernel_can(tree: CgroupTree) -> None:
    needs(tree, "memory", "swap")
    if tree.version != "v2":
        pytest.skip("memory.oom.group is of v2")

    def lose_a_child() -> None:
        if not os.fork():
            bytearray(100 * MB)
            os._exit(0)
        time.sleep(20)

    with made(tree, Limits(memory=30 * MB)) as attach:
        assert run(attach, lose_a_child) == -signal.SIGKILL


def test_processes_over_the_cap_get_eagain(tree: CgroupTree) -> None:
    needs(tree, "pids")

    def fork_often() -> None:
        children = []
        try:
            for _ in range(20):
                pid = os.fork()
                if not pid:
                    time.sleep(20)
                    os._exit(0)
                children.append(pid)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    with made(tree, Limits(pids=5)) as attach:
        status = run(attach, fork_often)
        reading = tree.read("t1")
    assert status == errno.EAGAIN
    assert reading.pids_denied >= 1
    assert reading.pids_peak in (None, 5)


def test_cpu_time_of_all_descendants_is_counted(tree: CgroupTree) -> None:
    needs(tree, "cpu")

    def spin_twice() -> None:
        if not os.fork():
            spin(0.2)
            os._exit(0)
        spin(0.2)
        os.wait()

    with made(tree, Limits()) as attach:
        run(attach, spin_twice)
        seconds = tree.read("t1").cpu_seconds
    assert seconds is not None
    assert 0.35 < seconds < 1.5


def test_a_cpu_quota_slows_down(tree: CgroupTree) -> None:
    needs(tree, "cpu")
    with made(tree, Limits(cpus=0.25)) as attach:
        started = time.monotonic()
        run(attach, lambda: spin(0.3))
        wall = time.monotonic() - started
        seconds = tree.read("t1").cpu_seconds
    assert seconds is not None
    assert seconds / wall < 0.4


@pytest.mark.parametrize("cpus", [0.001, 0.25, 64])
def test_the_kernel_takes_any_quota(tree: CgroupTree, cpus: float) -> None:
    needs(tree, "cpu")
    with made(tree, Limits(cpus=cpus)):
        pass


def test_a_cpuset_shows_one_core(tree: CgroupTree) -> None:
    needs(tree, "cpuset")

    def check() -> None:
        if os.sched_getaffinity(0) != {0}:
            raise OSError(99, str(os.sched_getaffinity(0)))

    with made(tree, Limits(cpuset="0")) as attach:
        assert run(attach, check) == 0


def test_cores_that_are_not_there_are_refused(tree: CgroupTree) -> None:
    needs(tree, "cpuset")
    with pytest.raises(UnsupportedError, match=r"cpuset .* no core 4096"):
        tree.dirs(Limits(cpuset="0,4096"))
    with made(tree, Limits()) as attach:
        assert run(attach, lambda: None) == 0
    written = [text for one in tree.dirs(Limits(cpuset="0,4096"), degrade=True) for _, text in one.files]
    assert "0,4096" not in written


@pytest.fixture
def direct_file(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that writes 1 MB past the page cache, which is what both versions charge to the writer."""
    path = tmp_path / "data"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"no O_DIRECT in {tmp_path}: {error}")
    block = mmap.mmap(-1, 1 << 16)

    def write() -> None:
        for _ in range(16):
            os.write(descriptor, block)

    yield write
    os.close(descriptor)


def test_bytes_to_and_from_disks_are_counted(tree: CgroupTree, direct_file: Callable[[], None]) -> None:
    needs(tree, "io")
    with made(tree, Limits()) as attach:
        assert run(attach, direct_file) == 0
        reading = tree.read("t1")
    assert reading.write_bytes is not None
    assert MB <= reading.write_bytes < 2 * MB
    assert reading.read_bytes is not None


def test_a_rate_of_io_holds(tree: CgroupTree, direct_file: Callable[[], None]) -> None:
    needs(tree, "io")
    with made(tree, Limits(io_write=MB, io_read=MB)) as attach:
        started = time.monotonic()
        assert run(attach, direct_file) == 0
    assert time.monotonic() - started > 0.6


def test_a_frozen_group_stands_still_and_goes_on_when_thawed(tree: CgroupTree) -> None:
    needs(tree, "freezer")
    counter = mmap.mmap(-1, 8)

    def count() -> None:
        while True:
            counter[0] = (counter[0] + 1) % 256
            time.sleep(0.001)

    def moves() -> bool:
        before = counter[0]
        time.sleep(0.05)
        return counter[0] != before

    with made(tree, Limits(timeout=1)) as attach:
        pid = start(attach, count)
        try:
            while not counter[0]:
                time.sleep(0.001)
            assert tree.processes("t1") == (pid,)
            assert tree.freeze("t1")
            assert not moves()
            tree.thaw("t1")
            assert moves()
        finally:
            tree.thaw("t1")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_frozen_group_can_be_cleared(tree: CgroupTree) -> None:
    needs(tree, "freezer")
    with made(tree, Limits(timeout=1)) as attach:
        pid = start(attach, lambda: time.sleep(60))
        assert tree.freeze("t1")
        for path in attach:
            cgroupfs._kill(os.path.dirname(path))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_devices_but_the_harmless_ones_are_closed(tree: CgroupTree) -> None:
    if "devices" not in tree.controllers:
        pytest.skip("no devices controller: v2, or not root")
    with made(tree, Limits()) as attach:
        assert run(attach, lambda: os.open("/dev/null", os.O_RDWR)) == 0
        assert run(attach, os.openpty) == 0
        assert run(attach, lambda: os.open("/dev/kmsg", os.O_RDONLY)) == errno.EPERM


def test_a_device_that_is_named_is_open(tree: CgroupTree) -> None:
    if "devices" not in tree.controllers:
        pytest.skip("no devices controller: v2, or not root")
    with made(tree, Limits(), devices=("c 1:11 rw",)) as attach:
        assert run(attach, lambda: os.open("/dev/kmsg", os.O_RDONLY)) == 0


def test_tests_are_in_one_group_if_they_differ_in_nothing_but_what_others_count(tree: CgroupTree) -> None:
    shared = [
        [one.parent for one in tree.dirs(limits, devices=devices) if one.shared]
        for limits, devices in ((Limits(), ()), (Limits(pids=9), ()), (Limits(), ("c 1:11 rw",)))
    ]
    if not shared[0]:
        pytest.skip("no hierarchy of devices alone")
    assert shared[0] == shared[1] != shared[2]
    assert all(os.path.isdir(group) for groups in shared for group in groups)
    tree.close()
    assert not any(os.path.isdir(group) for groups in shared for group in groups)


def test_a_file_of_the_lower_layer_can_be_deleted_without_device_rights(tree: CgroupTree, tmp_path: Path) -> None:
    """overlayfs makes a device node 0:0 for it."""
    if "devices" not in tree.controllers:
        pytest.skip("no devices controller: v2, or not root")
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").touch()

    def delete() -> None:
        os.chdir(tmp_path)
        if os.system(
            "unshare -m sh -c 'mount -t tmpfs t upper && mkdir upper/u upper/w && "
            "mount -t overlay o -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged && "
            "rm merged/file && "
            "test -c upper/u/file' >&2"
        ):
            raise OSError(99, "")

    with made(tree, Limits()) as attach:
        assert run(attach, delete) == 0
