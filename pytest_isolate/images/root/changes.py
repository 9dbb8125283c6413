"""What a test changed in its image: the writable layer compared with the layers below it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Literal

from pytest_isolate.images.root.merged_tree import Found, Merged
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.overlayfs import is_opaque, is_whiteout
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.sandbox.outcome import Change


def changes(scratch: int, layer: WritableLayer) -> list[Change]:
    """The changes in ``layer``, whose directories are absolute or below the directory ``scratch``."""
    base = f"/proc/self/fd/{scratch}"
    below = Merged([path if os.path.isabs(path) else f"{base}/{path}" for path in layer.lowers])
    return list(_in(f"{base}/{layer.upper}", "", below, below.root))


def _in(folder: str, path: str, below: Merged, known: Found | None) -> Iterator[Change]:
    """The changes in the directory ``folder`` of the layer; ``known`` is what lies below it, if anything does."""
    try:
        names = sorted(calls.listdir(folder))
    except OSError:  # a directory that its owner may not read: as far as it can be seen
        return
    if known is not None and is_opaque(folder):  # all that was in it is gone, except what was made again
        yield from (Change("D", f"{path}/{name}") for name in below.names(known) if name not in names)
    for name in names:
        here, was = f"{folder}/{name}", None if known is None else below.below(known, name)
        status = calls.lstat(here)
        if kind := _kind(here, status, was):
            yield Change(kind, f"{path}/{name}")
        if stat.S_ISDIR(status.st_mode):
            yield from _in(here, f"{path}/{name}", below, was if was is not None and was.is_dir else None)


def _kind(path: str, status: os.stat_result, was: Found | None) -> Literal["A", "M", "D"] | None:
    if is_whiteout(status):
        return None if was is None else "D"
    if was is None:
        return "A"
    return None if _same(status, path, was) else "M"


def _same(status: os.stat_result, path: str, was: Found) -> bool:
    """As in changed_files.c, same_file(): opening a file for writing copies it up, time and size as they were."""
    old = was.status
    if (status.st_mode, status.st_uid, status.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
        return False
    if stat.S_ISLNK(status.st_mode):
        return calls.readlink(path) == calls.readlink(was.real[0])
    return stat.S_ISDIR(status.st_mode) or (status.st_size, status.st_mtime_ns) == (old.st_size, old.st_mtime_ns)
