"""What the file system looks like from here: the facts that the writable view is planned from.

They are looked up once per session.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Literal, NamedTuple

from pytest_isolate.linux import files, mountinfo, unix_table
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import Mount, below, visible
from pytest_isolate.plan import session_layers
from pytest_isolate.plan.session_layers import SESSION

Kind = Literal["directory", "file", "link"]
#: Names in a directory; of files, which are copied, size and time of the last change as well.
Listing = frozenset[tuple[str, int, int]]
#: Trees that are made anew in every sandbox.
KERNEL = ("/dev", "/proc", "/sys")
#: Links in /proc to what the process that reads them has (proc_self(5)).
_PROCESSES = ("self", "thread-self", "mounts", "net")
#: What tests may share with fixtures by name (shm_overview(7)).
SHM = "/dev/shm"  # noqa: S108 - no file of ours is made there
#: Files that are larger are not copied but shown read-only.
SMALL = 1 << 20
#: There if the session has a network of its own, whose table of Unix sockets has none of the host's.
OWN_NETWORK = f"{SESSION}/own-network"
_NOT_SHOWN = (*KERNEL, SESSION)


class Entry(NamedTuple):
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
    empty: bool = False  #: a directory that this user sees to have no entry

    def mode_for_owner(self, access: int | None = None) -> int:
        """Mode that gives its owner what this user may do to the original, and everybody else what they may."""
        return self.mode & ~0o700 | (self.access if access is None else access) << 6


class HostTree(NamedTuple):
    """The mounted file systems, and the directories that need attention one by one."""

    mounts: tuple[Mount, ...]  #: visible ones, parents first, without those under /proc, /sys, /dev
    points: Mapping[str, Entry]  #: each mount point in ``mounts``, if it can be looked at
    skeleton: tuple[Entry, ...] = ()  #: "/", all in it, and all in each directory with a mount below; parents first
    traps: tuple[Entry, ...] = ()  #: directories that this user may write, below one whose owner the sandbox cannot map
    important: tuple[str, ...] = ()  #: where tests will write: the project, home, temporary folder
    proc: frozenset[str] = frozenset()  #: entries in /proc that are the machine's, not a process's
    refused: Mapping[str, int] = MappingProxyType({})  #: trees that no overlay could be mounted on: errno
    shared_memory: int | None = None  #: mode of /dev/shm; None: no layer can be had over it
    #: in a session sandbox, whose overlays take no further ones on a file system that is one itself: where each of them
    #: is mounted, and the directory of :data:`SESSION` that has its upper and lower directory
    session_layers: Mapping[str, str] = MappingProxyType({})
    #: in a session sandbox, of servers of its fixtures: path of each Unix socket, and the inode that tells it from one
    #: that was there before
    sockets: frozenset[tuple[str, int]] = frozenset()
    bound_through: tuple[str, ...] = ()  #: in a session sandbox: what is mounted there, and no layer of its own
    queues: bool = False  #: there is a /dev/mqueue, mounted or not
    left_out: Mapping[str, int] = MappingProxyType({})  #: trees that could not even be shown read-only: errno
    #: of ``skeleton``: directories that fixtures are likely to write to, with what was in them
    pieces: tuple[tuple[str, Listing], ...] = ()

    def shows(self, path: str) -> bool:
        """Whether it is one of the directories that get attention one by one."""
        return path in self.points or any(path == entry.path for entry in (*self.skeleton, *self.traps))

    def is_stale(self) -> bool:
        """Whether a directory that is shown piece by piece has other pieces by now, or a fixture other sockets."""
        if self.session_layers and self.sockets != _sockets(self.session_layers, self.bound_through):
            return True
        return any(_listing(path) != was for path, was in self.pieces)


def look(*, important: Iterable[str], rootless: bool) -> HostTree:
    """Look at this process's own view.

    :param important: absolute paths that the tests will write to: folder of the project, home, temporary folder.
    :param rootless: look also for what matters only without root.
    """
    important = sorted({os.path.realpath(path) for path in important})
    all_mounts = visible(mountinfo.read())
    layers = session_layers.find(all_mounts)
    trapped = set(session_layers.traps(all_mounts, layers)) if rootless else set()
    shown = [mount for mount in all_mounts if not _is_hidden(mount.point)]
    mounts = tuple(mount for mount in shown if mount.point not in trapped)
    points = {mount.point: entry for mount in mounts if (entry := entry_at(mount.point))}
    skeleton = tuple(_skeleton([mount.point for mount in mounts])) if rootless else ()
    through = tuple(mount.point for mount in shown if mount.point not in layers) if layers else ()
    tops = {entry.path for entry in skeleton}
    written = [*important, os.path.realpath(os.path.expanduser("~"))]
    return HostTree(
        mounts=mounts,
        shared_memory=_shared_memory(all_mounts),
        queues=os.path.isdir("/dev/mqueue"),
        session_layers=layers,
        sockets=_sockets(layers, through),
        bound_through=through,
        left_out={point: errno.ENOENT for point, number in layers.items() if files.is_removed(f"{SESSION}/{number}")},
        points=points,
        skeleton=skeleton,
        traps=tuple(_traps(tops, written, trapped)) if rootless else (),
        important=tuple(important),
        proc=frozenset(name for name in calls.listdir("/proc") if not (name.isdecimal() or name in _PROCESSES)),
        pieces=tuple((path, _listing(path)) for path in _in_pieces(skeleton, mounts, written)),
    )


def _is_hidden(path: str) -> bool:
    return path in _NOT_SHOWN or any(below(path, top) for top in _NOT_SHOWN)


def entry_at(path: str) -> Entry | None:
    """The facts about ``path`` itself; None if there is nothing that a sandbox could show."""
    try:
        status = calls.lstat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(path=path, kind="link", target=calls.readlink(path))
    access = sum(bit for bit in (4, 2, 1) if calls.access(path, bit, effective_ids=True))
    if stat.S_ISREG(status.st_mode):
        return Entry(path=path, kind="file", mode=mode, access=access, size=status.st_size)
    if not stat.S_ISDIR(status.st_mode):
        return None  # sockets and pipes must not lead to the host's processes, devices not to its hardware
    owner = (status.st_uid, status.st_gid)
    # One that this user may pass but not list (mode 711, as of /root on some machines) has what paths lead to.
    empty = bool(access & 4) and not any(_names(path))
    return Entry(path=path, kind="directory", mode=mode, owner=owner, access=access, empty=empty)


def _sockets(layers: Mapping[str, str], through: Sequence[str]) -> frozenset[tuple[str, int]]:
    """Those with a file that the session has made; with the host's network the kernel tells of the host's, too."""
    if not layers:
        return frozenset()
    if not calls.access(OWN_NETWORK, os.F_OK):
        through = ()
    # Nobody tells where the process was that bound a relative path: it is looked for here.
    here = "/"
    with suppress(OSError):  # it was removed
        here = calls.getcwd()
    bound = ((os.path.normpath(os.path.join(here, path)), inode) for path, inode in unix_table.bound())
    return frozenset((path, inode) for path, inode in bound if _is_made_inside(path, layers, through))


def _is_made_inside(path: str, layers: Mapping[str, str], through: Sequence[str]) -> bool:
    point = max((point for point in (*layers, *through, SHM) if below(path, point)), key=len, default=None)
    if point is None or os.path.realpath(path) != path:
        return False
    places = [path]
    if point in layers:
        places.append(f"{SESSION}/s/u{layers[point]}/{path[len(point) :].lstrip('/')}")
    try:
        return all(stat.S_ISSOCK(calls.lstat(each).st_mode) for each in places)
    except OSError:
        return False


def _shared_memory(mounts: Iterable[Mount]) -> int | None:
    entry = entry_at(SHM)
    if entry is None or entry.kind != "directory" or any(below(mount.point, SHM) for mount in mounts):
        return None
    return entry.mode if _libc_takes_any_memory() else None


def _libc_takes_any_memory() -> bool:
    """Whether shm_open(3) and sem_open(3) work on an overlay: glibc before 2.34 looks for a tmpfs instead."""
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return True  # musl takes /dev/shm as it is
    major, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.0").split()[1].split(".")[:2]
    return (int(major), int(minor)) >= (2, 34)


def _names(path: str) -> Iterator[str]:
    with suppress(OSError), calls.scandir(path) as entries:
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
        if path == SESSION:
            continue
        yield entry
        # Of "/" always: /proc, /sys and /dev are mounted there, if nothing else is.
        if path == "/" or (path not in KERNEL and any(below(point, path) for point in points)):
            there = [point for point in points if below(point, path)]
            names = set(_names(path)) or {point[len(path) :].lstrip("/").split("/")[0] for point in there}
            waiting += sorted((os.path.join(path, name) for name in names), reverse=True)


def _traps(tops: set[str], important: Iterable[str], known: Iterable[str] = ()) -> Iterator[Entry]:
    """Directories that a test may write, as outside, but an overlay could not copy up to.

    Copying up ``/var/tmp/x`` into an overlay of /var makes /var/tmp there first, with its owner, who is not mapped in a
    user namespace that maps one id: EOVERFLOW. The root of an overlay is exempt, as its upper directory is there
    already. So such a directory gets an overlay of its own. Looked at are the directories two levels deep, which finds
    /var/tmp, /run/lock and their like, and the way to each ``important`` path.

    :param known: some that do not look like it, as those of a session sandbox, where each layer's root is the user's.
    """
    ids = (calls.geteuid(), os.getegid())
    chains = set(important)
    for top in tops:
        if top not in KERNEL and top.count("/") == 1:
            chains.update(os.path.join(top, name) for name in _names(top))
    found = {path: entry for path in known if (entry := entry_at(path)) and entry.kind == "directory"}
    for chain in sorted(chains):
        for path in _on_the_way(chain, tops, ids):
            if path not in found and (entry := entry_at(path)):
                found[path] = entry
    yield from (found[path] for path in sorted(found, key=lambda path: path.split("/")))


def _in_pieces(skeleton: Iterable[Entry], mounts: Sequence[Mount], written: Sequence[str]) -> Iterator[str]:
    """Directories with mounts below that this user may write to, on the way to where tests write."""
    for entry in skeleton:
        writable = entry.kind == "directory" and entry.access & 2 and entry.path not in KERNEL
        on_the_way = any(path == entry.path or below(path, entry.path) for path in written)
        if writable and on_the_way and any(below(mount.point, entry.path) for mount in mounts):
            yield entry.path


def _listing(path: str) -> Listing:
    found = set()
    with suppress(OSError), calls.scandir(path) as entries:
        for entry in entries:
            name, size, time = entry.name, 0, 0
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    size, time = status.st_size, status.st_mtime_ns
            found.add((name, size, time))
    return frozenset(found)


def _on_the_way(chain: str, tops: set[str], ids: tuple[int, int]) -> Iterator[str]:
    """The directories on the way to ``chain`` that this user may write and an overlay, of one above, could not copy."""
    path, foreign = "", False
    for name in chain.split("/")[1:]:
        path = f"{path}/{name}"
        if path in KERNEL:
            return
        if path in tops:
            continue
        try:
            status = calls.lstat(path)
        except OSError:
            return
        if not stat.S_ISDIR(status.st_mode):
            return
        foreign = foreign or (status.st_uid, status.st_gid) != ids
        if foreign and calls.access(path, os.W_OK | os.X_OK, effective_ids=True):
            yield path
            foreign = False  # for what lies below, its overlay is the one above
