"""The disks under the mounted file systems, which is where the kernel limits and counts input and output."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SYS_BLOCK = Path("/sys/dev/block")
_LOOP = "7"


def disks(proc: Path = Path("/proc"), block: Path = SYS_BLOCK) -> tuple[str, ...]:
    """``MAJOR:MINOR`` of every whole disk that a mounted file system lies on.

    The throttle works on whole disks, so a partition stands for its disk. btrfs and overlay show an anonymous device
    number (major 0): there the mount's source or upper directory is asked.
    """
    found = set()
    for line in (proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        _, source, options = after.split(" ", 2)
        device = before.split(" ")[2]
        if device.startswith("0:"):
            device = _behind(source, options)
        if device and (block / device).exists():
            found.add(whole(device, block))
    return tuple(sorted(found))


def whole(device: str, block: Path = SYS_BLOCK) -> str:
    """The disk that a partition is part of; any other device itself."""
    if (block / device / "partition").exists():
        return (block / device).resolve().parent.joinpath("dev").read_text().strip()
    return device


def is_stacked(device: str, block: Path = SYS_BLOCK) -> bool:
    """Whether what this device (device mapper, RAID, loop) transfers is counted again on those below it."""
    if device.partition(":")[0] == _LOOP:
        return True
    try:
        return any((block / device / "slaves").iterdir())
    except OSError:
        return False


def _behind(source: str, options: str) -> str:
    """Of a file system without a device number of its own, the number of the device behind it, or ''."""
    upper = [option.partition("=")[2] for option in options.split(",") if option.startswith("upperdir=")]
    try:
        if source.startswith("/"):
            status = os.stat(source)
            number = status.st_rdev if stat.S_ISBLK(status.st_mode) else 0
        else:
            number = os.stat(upper[0]).st_dev if upper else 0
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}" if os.major(number) else ""
