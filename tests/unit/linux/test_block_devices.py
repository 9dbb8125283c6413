"""Disks that are meant when a limit is for all disks."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_isolate.linux.block_devices import disks, is_stacked
from tests.support.cgroup_host import Host


def test_partitions_stand_for_their_disk_and_anonymous_devices_for_what_lies_behind(host: Host, tmp_path: Path) -> None:
    block = tmp_path / "sys" / "block"
    for name, device in (("sda", "8:0"), ("sda/sda1", "8:1"), ("dm-0", "253:0")):
        directory = tmp_path / "sys" / "devices" / name
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{device}\n")
        block.mkdir(exist_ok=True)
        (block / device).symlink_to(directory)
    (block / "8:1" / "partition").write_text("1\n")
    (block / "253:0" / "slaves" / "sda1").mkdir(parents=True)
    (block / "8:0" / "slaves").mkdir()
    host.mount("root", "ext4", device="8:1")
    host.mount("home", "xfs", device="253:0")
    host.mount("run", "tmpfs", device="0:21")
    host.mount("gone", "ext4", device="8:99")
    assert disks(host.proc, block) == ("253:0", "8:0")
    assert is_stacked("253:0", block)
    assert not is_stacked("8:0", block)
    assert is_stacked("7:3", block)
    upper = tmp_path
    status = os.stat(upper)
    if os.major(status.st_dev):
        device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        (block / device).mkdir(exist_ok=True)
        host.mount("merged", "overlay", options=f"rw,lowerdir=/x,upperdir={upper},workdir=/y", device="0:40")
        assert device in disks(host.proc, block)
