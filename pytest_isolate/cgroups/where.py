"""Which hierarchies are mounted where, and in which group of each this process is.

Per controller, not per machine: a v1 hierarchy takes its controllers away from v2, so both can be in use at once.
See cgroups(7), proc_pid_cgroup(5) and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: Our name of a controller -> the kernel's on v1 (on v2 it is ours, and freezer is no controller but always there).
V1_NAMES = {
    "memory": "memory", "cpu": "cpu", "cpuset": "cpuset", "pids": "pids", "io": "blkio", "freezer": "freezer",
    "devices": "devices",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted hierarchy. ``own`` is this process's group there, None where it lies outside of what is mounted."""

    version: int  #: 1 or 2
    controllers: frozenset[str]  #: of a v1 hierarchy, by the kernel's names; empty for v2
    mount: str
    own: str | None
    path: str  #: of this process, as in /proc/self/cgroup


def hierarchies(proc: Path) -> tuple[Hierarchy, ...]:
    """Those with a controller that we know, v2 last; one that is not mounted is left out."""
    known = {*V1_NAMES.values(), "cpuacct"}
    mounts = _mounts(proc)
    found = []
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        controllers = frozenset(names.split(",")) & known
        version = 2 if number == "0" else 1
        if version == 1 and not controllers:
            continue  # name=systemd, net_cls ...
        candidates = [m for m in mounts if m.version == version and controllers <= m.options]
        if candidates:
            # Containers show one hierarchy at several places: take one that holds our group, the latest mount first.
            places = [(m.place, _below(m, path)) for m in reversed(candidates)]
            mount, own = next((place for place in places if place[1]), places[0])
            found.append(Hierarchy(version=version, controllers=controllers, mount=mount, own=own, path=path))
    return tuple(sorted(found, key=lambda one: one.version))


def own_path(proc: Path, version: int, controllers: frozenset[str] = frozenset()) -> str | None:
    """The path of this process's group as /proc/self/cgroup has it now."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if (number == "0") == (version == 2) and controllers <= set(names.split(",")):  # noqa: PLR2004
            return path
    return None


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    root: str
    place: str
    options: frozenset[str]


def _mounts(proc: Path) -> list[_Mount]:
    mounts = []
    for line in (proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, place = (_unescape(field) for field in before.split(" ")[3:5])
            version = 2 if kind == "cgroup2" else 1
            mounts.append(_Mount(version, root, place, frozenset(options.split(",")) if version == 1 else frozenset()))
    return mounts


def _below(mount: _Mount, path: str) -> str | None:
    """The directory of the group ``path``; ``/..`` in either stands for what lies outside of the cgroup namespace."""
    outside = path.startswith("/..") or mount.root.startswith("/..") or path.endswith(" (deleted)")
    root = mount.root.rstrip("/")
    if outside or not (path == root or path.startswith(root + "/")):
        return None
    directory = (mount.place + path[len(root) :]).rstrip("/")
    return directory if os.path.isdir(directory) else None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
