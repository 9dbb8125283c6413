"""Which file systems are mounted where, as the kernel lists them (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pytest_isolate.linux import files
from pytest_isolate.linux.procfs import PROC

#: File systems that show kernel state instead of holding files. They are never copied on write; the sandbox gets fresh
#: ones where it needs them.
PSEUDO = frozenset(
    (
        "autofs",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fuse.lxcfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nfsd",
        "nsfs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "smackfs",
        "sysfs",
        "tracefs",
        "xenfs",
    )
)
#: File systems that are read-only by their format and cannot hold a socket that a process listens on.
IMAGES = frozenset(("cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"))
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


class Mount(NamedTuple):
    """One line of mountinfo."""

    number: int
    parent: int
    device: str  #: ``MAJOR:MINOR``
    root: str  #: the part of the file system that is mounted
    point: str  #: where, from the root of the process that read it
    kind: str  #: file system type
    source: str  #: a device, or whatever the file system makes of it
    options: frozenset[str]  #: of this mount and of the file system

    @property
    def pseudo(self) -> bool:
        """Kernel state rather than files."""
        return self.kind in PSEUDO

    @property
    def read_only(self) -> bool:
        """Nobody can write through this mount, not even root."""
        return "ro" in self.options


def read(proc: Path = PROC) -> tuple[Mount, ...]:
    """The mounts that this process sees, in the kernel's order."""
    return parse(files.read_bytes(f"{proc}/self/mountinfo"))


def parse(text: bytes) -> tuple[Mount, ...]:
    """All lines of mountinfo, in the kernel's order."""
    return tuple(_parse_line(line) for line in text.split(b"\n") if line)  # a name may have a carriage return


def _parse_line(line: bytes) -> Mount:
    fields = line.split(b" ")
    dash = fields.index(b"-", 6)
    options = fields[5].split(b",") + (fields[dash + 3].split(b",") if len(fields) > dash + 3 else [])
    return Mount(
        number=int(fields[0]),
        parent=int(fields[1]),
        device=fields[2].decode("ascii"),
        root=_decode(fields[3]),
        point=_decode(fields[4]),
        kind=fields[dash + 1].decode("ascii", "replace"),
        source=_decode(fields[dash + 2]) if len(fields) > dash + 2 else "",
        options=frozenset(option.decode("utf-8", "surrogateescape") for option in options),
    )


def _decode(field: bytes) -> str:
    r"""Space, tab, newline and backslash are written as ``\040`` and so on."""
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), field).decode("utf-8", "surrogateescape")


def below(path: str, directory: str) -> bool:
    """Whether ``path`` lies strictly below ``directory``; both absolute and normal."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def visible(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Those that a path leads to, by path, so that what is mounted on comes before what is mounted there.

    A mount is hidden by one stacked on it, and by one on a directory above its own within the same parent mount. In a
    chroot the root has no line, as it is no mount point of its own; then ``/`` is missing here, too.
    """
    all_of_them = list(mounts)
    numbers = {mount.number for mount in all_of_them}
    children: dict[int, list[Mount]] = {}
    for mount in all_of_them:
        if mount.parent in numbers and mount.parent != mount.number:
            children.setdefault(mount.parent, []).append(mount)
    roots = [mount for mount in all_of_them if mount.parent not in numbers or mount.parent == mount.number]
    return tuple(sorted(_reachable(roots, children), key=lambda mount: mount.point.split("/")))


def _reachable(roots: list[Mount], children: dict[int, list[Mount]]) -> Iterator[Mount]:
    waiting = list(roots)
    while waiting:
        mount = waiting.pop()
        on_top = [child for child in children.get(mount.number, ()) if child.point == mount.point]
        if on_top:
            waiting.append(on_top[-1])
            continue
        yield mount
        there = children.get(mount.number, [])
        waiting += [child for child in there if not any(below(child.point, other.point) for other in there)]
