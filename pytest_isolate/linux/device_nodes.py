"""Device nodes of the host, by the paths that a test names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pytest_isolate.linux.calls import calls


class DeviceNode(NamedTuple):
    """A character or block device."""

    path: str  #: where it was asked for
    source: str  #: the same without links
    number: str  #: as control groups of v1 have it: ``c 10:229``


def find(path: str) -> tuple[DeviceNode, ...]:
    """The device at ``path``, or all that are below it, as Docker takes a directory; none if there is none."""
    return tuple(_find(path))


def _find(path: str) -> Iterator[DeviceNode]:
    try:
        status = calls.stat(path)
    except OSError:
        return
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
        number = f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        yield DeviceNode(path, os.path.realpath(path), number)
    elif stat.S_ISDIR(calls.lstat(path).st_mode):  # at the end of a link it might be the one that we come from
        names: list[str] = []
        with suppress(OSError):
            names = calls.listdir(path)
        for name in sorted(names):
            yield from _find(os.path.join(path, name))
