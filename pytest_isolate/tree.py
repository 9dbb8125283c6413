"""What the file system looks like from here: the facts that the writable view is planned from.

They are looked up once per session.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_isolate.mounts import Mount, below, parse, visible

Kind = Literal["directory", "file", "link"]

#: Trees that are made anew in every sandbox.
KERNEL = ("/dev", "/proc", "/sys")
#: Files that are larger are not copied but shown read-only.
SMALL = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One directory, regular file or symbolic link.

    ``access`` are the permission bits (4 read, 2 write, 1 enter) that this user has in effect, by whichever way: where
    it stands in for the original, the copy belongs to the user, and these become its owner's bits.
    """

    path: str
    kind: Kind
    mode: int = 0o755  #: permission bits
    owner: tuple[int, int] = (0, 0)  #: user and group
    access: int = 7
    target: str = ""  #: of a link
    size: int = 0  #: of a file
    empty: bool = False  #: a directory that has no entry, or none that this user can see

    def mode_for_owner(self, access: int | None = None) -> int:
        """Mode that gives its owner what this user may do to the original, and everybody else what they may."""
        return self.mode & ~0o700 | (self.access if access is None else access) << 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The mounted file systems, and the directories that need attention one by one."""

    mounts: tuple[Mount, ...]  #: visible ones, parents first, without those under /proc, /sys, /dev
    points: Mapping[str, Entry]  #: each mount point in ``mounts``, if it can be looked at
    skeleton: tuple[Entry, ...] = ()  #: "/", all in it, and all in each directory with a mount below; parents first
    traps: tuple[Entry, ...] = ()  #: directories that this user may write, below one whose owner the sandbox cannot map
    important: tuple[str, ...] = ()  #: where tests will write: the project, home, temporary folder
    proc: frozenset[str] = frozenset()  #: names in /proc
    refused: Mapping[str, int] = field(default_factory=dict)  #: trees that no overlay could be mounted on: errno
    left_out: Mapping[str, int] = field(default_factory=dict)  #: trees that could not even be shown read-only: errno


def look(*, important: Iterable[str], rootless: bool) -> Tree:
    """Look at this process's own view.

    :param important: absolute paths that the tests will write to: folder of the project, home, temporary folder.
    :param rootless: look also for what matters only without root.
    """
    important = sorted({os.path.realpath(path) for path in important})
    mounts = tuple(
        mount
        for mount in visible(parse(Path("/proc/self/mountinfo").read_bytes()))
        if mount.point not in KERNEL and not any(below(mount.point, top) for top in KERNEL)
    )
    points = {mount.point: entry for mount in mounts if (entry := entry_at(mount.point))}
    skeleton = tuple(_skeleton([mount.point for mount in mounts])) if rootless else ()
    tops = {entry.path for entry in skeleton}
    return Tree(
        mounts=mounts,
        points=points,
        skeleton=skeleton,
        traps=tuple(_traps(tops, [*important, os.path.realpath(os.path.expanduser("~"))])) if rootless else (),
        important=tuple(important),
        proc=frozenset(name for name in os.listdir("/proc") if not name.isdecimal()),
    )


def entry_at(path: str) -> Entry | None:
    """The facts about ``path`` itself; None if there is nothing that a sandbox could show."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(path=path, kind="link", target=os.readlink(path))
    access = sum(bit for bit in (4, 2, 1) if os.access(path, bit, effective_ids=True))
    if stat.S_ISREG(status.st_mode):
        return Entry(path=path, kind="file", mode=mode, access=access, size=status.st_size)
    if not stat.S_ISDIR(status.st_mode):
        return None  # sockets and pipes must not lead to the host's processes, devices not to its hardware
    owner = (status.st_uid, status.st_gid)
    return Entry(path=path, kind="directory", mode=mode, owner=owner, access=access, empty=not any(_names(path)))


def _names(path: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            yield entry.name


def _skeleton(points: list[str]) -> Iterator[Entry]:
    """Depth first, each directory before what is in it."""
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        entry = entry_at(path)
        if entry is None:
            continue
        yield entry
        # Of "/" always: /proc, /sys and /dev are mounted there, if nothing else is.
        if path == "/" or (path not in KERNEL and any(below(point, path) for point in points)):
            there = [point for point in points if below(point, path)]
            names = set(_names(path)) or {point[len(path) :].lstrip("/").split("/")[0] for point in there}
            waiting += sorted((os.path.join(path, name) for name in names), reverse=True)


def _traps(tops: set[str], important: Iterable[str]) -> Iterator[Entry]:
    """Directories that a test may write, as outside, but an overlay could not copy up to.

    Copying up ``/var/tmp/x`` into an overlay of /var makes /var/tmp there first, with its owner, who is not mapped in a
    user namespace that maps one id: EOVERFLOW. The root of an overlay is exempt, as its upper directory is there
    already. So such a directory gets an overlay of its own. Looked at are the directories two levels deep, which finds
    /var/tmp, /run/lock and their like, and the way to each ``important`` path.
    """
    ids = (os.geteuid(), os.getegid())
    chains = set(important)
    for top in tops:
        if top not in KERNEL and top.count("/") == 1:
            chains.update(os.path.join(top, name) for name in _names(top))
    found: dict[str, Entry] = {}
    for chain in sorted(chains):
        for path in _on_the_way(chain, tops, ids):
            if path not in found and (entry := entry_at(path)):
                found[path] = entry
    yield from (found[path] for path in sorted(found, key=lambda path: path.split("/")))


def _on_the_way(chain: str, tops: set[str], ids: tuple[int, int]) -> Iterator[str]:
    """The directories on the way to ``chain`` that this user may write and an overlay, of one above, could not copy."""
    path, foreign = "", False
    for name in chain.split("/")[1:]:
        path = f"{path}/{name}"
        if path in tops or path in KERNEL:
            continue
        try:
            status = os.lstat(path)
        except OSError:
            return
        if not stat.S_ISDIR(status.st_mode):
            return
        foreign = foreign or (status.st_uid, status.st_gid) != ids
        if foreign and os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            yield path
            foreign = False  # for what lies below, its overlay is the one above
