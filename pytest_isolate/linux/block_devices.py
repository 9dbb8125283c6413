"""The disks under the mounted file systems, which is where the kernel limits and counts input and output."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pytest_isolate.linux import files, mountinfo
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import Mount
from pytest_isolate.linux.procfs import PROC

SYS_BLOCK = Path("/sys/dev/block")
_LOOP = "7"


def disks(proc: Path = PROC, block: Path = SYS_BLOCK) -> tuple[str, ...]:
    """``MAJOR:MINOR`` of every whole disk that a mounted file system lies on.

    The throttle works on whole disks, so a partition stands for its disk. btrfs and overlay show an anonymous device
    number (major 0): there the mount's source or upper directory is asked.
    """
    found = set()
    for mount in mountinfo.read(proc):
        device = _behind(mount) if mount.device.startswith("0:") else mount.device
        if device and files.exists(block / device):
            found.add(whole(device, block))
    return tuple(sorted(found))


def whole(device: str, block: Path = SYS_BLOCK) -> str:
    """The disk that a partition is part of; any other device itself."""
    if files.exists(block / device / "partition"):
        return files.read_text(f"{block}/{device}/../dev").strip()  # of what the link leads to
    return device


def is_stacked(device: str, block: Path = SYS_BLOCK) -> bool:
    """Whether what this device (device mapper, RAID, loop) transfers is counted again on those below it."""
    if device.partition(":")[0] == _LOOP:
        return True
    try:
        return bool(calls.listdir(block / device / "slaves"))
    except OSError:
        return False


def _behind(mount: Mount) -> str:
    """Of a file system without a device number of its own, the number of the device behind it, or ''."""
    upper = [option.partition("=")[2] for option in mount.options if option.startswith("upperdir=")]
    try:
        if mount.source.startswith("/"):
            status = calls.stat(mount.source)
            number = status.st_rdev if stat.S_ISBLK(status.st_mode) else 0
        else:
            number = calls.stat(upper[0]).st_dev if upper else 0
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}" if os.major(number) else ""
