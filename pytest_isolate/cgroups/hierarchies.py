"""Which hierarchies are mounted where, and in which group of each this process is.

Per controller, not per machine: a v1 hierarchy takes its controllers away from v2, so both can be in use at once.
See cgroups(7), proc_pid_cgroup(5) and proc_pid_mountinfo(5).
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from pytest_isolate.linux import files, mountinfo
from pytest_isolate.linux.mountinfo import Mount

#: Our name of a controller -> the kernel's on v1 (on v2 it is ours, and freezer is no controller but always there).
V1_NAMES = {
    "memory": "memory", "cpu": "cpu", "cpuset": "cpuset", "pids": "pids", "io": "blkio", "freezer": "freezer",
    "devices": "devices",
}  # fmt: skip


class Version(IntEnum):
    """Of the kernel's interface, by hierarchy."""

    V1 = 1
    V2 = 2


class Hierarchy(NamedTuple):
    """One mounted hierarchy. ``own`` is this process's group there, None where it lies outside of what is mounted."""

    version: Version
    controllers: frozenset[str]  #: of a v1 hierarchy, by the kernel's names; empty for v2
    mount: str
    own: str | None
    path: str  #: of this process, as in /proc/self/cgroup


def hierarchies(proc: Path) -> tuple[Hierarchy, ...]:
    """Those with a controller that we know, v2 last; one that is not mounted is left out."""
    known = {*V1_NAMES.values(), "cpuacct"}
    mounts = mountinfo.read(proc)
    found = []
    for line in _lines(proc):
        number, names, path = line.split(":", 2)
        controllers = frozenset(names.split(",")) & known
        version = Version.V2 if number == "0" else Version.V1
        if version is Version.V1 and not controllers:
            continue  # name=systemd, net_cls ...
        kind = "cgroup" if version is Version.V1 else "cgroup2"
        candidates = [mount for mount in mounts if mount.kind == kind and controllers <= mount.options]
        if candidates:
            # Containers show one hierarchy at several points: take one that holds our group, the latest mount first.
            shown = [(mount.point, _below(mount, path)) for mount in reversed(candidates)]
            point, own = next((pair for pair in shown if pair[1]), shown[0])
            found.append(Hierarchy(version=version, controllers=controllers, mount=point, own=own, path=path))
    return tuple(sorted(found, key=lambda one: one.version))


def own_path(proc: Path, version: Version, controllers: frozenset[str] = frozenset()) -> str | None:
    """The path of this process's group as /proc/self/cgroup has it now."""
    for line in _lines(proc):
        number, names, path = line.split(":", 2)
        if (number == "0") == (version is Version.V2) and controllers <= set(names.split(",")):
            return path
    return None


def _lines(proc: Path) -> list[str]:
    """Not splitlines(): all that it takes for a line's end, but a line feed, may be in the name of a group."""
    return [line for line in files.read_text(f"{proc}/self/cgroup").split("\n") if line]


def _below(mount: Mount, path: str) -> str | None:
    """The directory of the group ``path``; ``/..`` in either stands for what lies outside of the cgroup namespace."""
    outside = path.startswith("/..") or mount.root.startswith("/..") or path.endswith(" (deleted)")
    root = mount.root.rstrip("/")
    if outside or not (path == root or path.startswith(root + "/")):
        return None
    directory = (mount.point + path[len(root) :]).rstrip("/")
    return directory if files.is_directory(directory) else None
