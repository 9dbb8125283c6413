"""An image's layers seen as the one tree that overlayfs makes of them, without mounting it.

Every look-up goes name by name from a layer's root and follows links within the image only, so that nothing in a layer
can lead to a file of the host's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pytest_isolate.linux.overlayfs import is_opaque, is_whiteout

_LINKS_MOST = 40  #: followed in one look-up, as the kernel does (path_resolution(7))


@dataclass(frozen=True, slots=True)
class Found:
    """What the image has at a path: the file itself, and in which layers' directories it is."""

    status: os.stat_result
    real: tuple[str, ...]  #: paths outside, the topmost first; more than one only for a directory

    @property
    def is_dir(self) -> bool:
        """A directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)


@dataclass(frozen=True, slots=True)
class Merged:
    """The tree of ``layers``: the directories that hold them, the topmost first."""

    layers: Sequence[str]

    @property
    def root(self) -> Found:
        """The image's own ``/``."""
        return Found(os.lstat(self.layers[0]), tuple(self.layers))

    def below(self, folder: Found, name: str) -> Found | None:
        """The entry ``name`` of a directory; None if there is none, or it has been deleted."""
        status: os.stat_result | None = None
        real: list[str] = []
        for each in folder.real:
            path = os.path.join(each, name)
            try:
                here = os.lstat(path)
            except OSError:
                continue
            if is_whiteout(here) or (status is not None and not stat.S_ISDIR(here.st_mode)):
                break
            status = status or here
            real.append(path)
            if not stat.S_ISDIR(here.st_mode) or is_opaque(path):
                break
        return None if status is None else Found(status, tuple(real))

    def names(self, folder: Found) -> list[str]:
        """Names of all entries of a directory."""
        names: set[str] = set()
        for each in folder.real:
            with suppress(OSError):
                names.update(os.listdir(each))
        return sorted(name for name in names if self.below(folder, name) is not None)

    def at(self, path: str) -> Found | None:
        """What is at an absolute path on which there are no links."""
        found: Found | None = self.root
        for name in _parts(path):
            if found is None or not found.is_dir:
                return None
            found = self.below(found, name)
        return found

    def resolve(self, path: str, directories: Collection[str] = ()) -> tuple[str, Found | None]:
        """Where an absolute path leads in the image, all links followed, and what is there.

        What does not exist is taken as it is written.

        :param directories: paths that are directories even if the image has a link there, or nothing.
        :raises OSError: ``ELOOP``, or ``ENOTDIR`` where a file is on the way.
        """
        waiting, links = _parts(path), 0
        done: list[str] = []
        found: Found | None = self.root
        while waiting:
            name = waiting.pop(0)
            if name == "..":
                done = done[:-1]
                found = self.at("/" + "/".join(done))
                continue
            if found is not None and not found.is_dir:
                raise NotADirectoryError(20, "Not a directory", "/" + "/".join(done))
            entry = None if found is None else self.below(found, name)
            if entry is not None and entry.is_link and "/".join(["", *done, name]) in directories:
                entry = None
            if entry is None or not entry.is_link:
                done.append(name)
                found = entry
                continue
            links += 1
            if links > _LINKS_MOST:
                raise OSError(40, "Too many levels of symbolic links", path)
            target = os.readlink(entry.real[0])
            waiting = _parts(target) + waiting
            if target.startswith("/"):
                done, found = [], self.root
        return "/" + "/".join(done), found

    def walk(self, path: str = "", folder: Found | None = None) -> Iterator[tuple[str, Found]]:
        """All entries with their paths, directories before what is in them."""
        folder = folder or self.root
        for name in self.names(folder):
            found = self.below(folder, name)
            assert found is not None
            yield f"{path}/{name}", found
            if found.is_dir:
                yield from self.walk(f"{path}/{name}", found)


def differences(old: Merged, new: Merged) -> Iterator[tuple[str, str]]:
    """What changed from one image to another: ``A``, ``M`` or ``D`` and the path."""
    before, after = dict(old.walk()), dict(new.walk())
    for path in sorted({*before, *after}):
        if path not in before:
            yield "A", path
        elif path not in after:
            yield "D", path
        elif not same(before[path], after[path]):
            yield "M", path


def same(one: Found, other: Found) -> bool:
    """Whether two entries are alike; files by their content, where their size is the same but their place is not."""
    a, b = one.status, other.status
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid):
        return False
    if one.is_link:
        return os.readlink(one.real[0]) == os.readlink(other.real[0])
    if not stat.S_ISREG(a.st_mode) or one.real == other.real:
        return True
    if a.st_size != b.st_size:
        return False
    with open(one.real[0], "rb") as left, open(other.real[0], "rb") as right:
        while piece := left.read(1 << 18):
            if piece != right.read(len(piece)):
                return False
    return True


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
