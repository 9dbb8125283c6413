"""Reading files of the kernel, of which a test or a tool may have patched all usual ways (:mod:`.calls`)."""

from __future__ import annotations

import os
import stat

from pytest_isolate.linux.calls import calls

_PIECE = 1 << 16
_READ = os.O_RDONLY | os.O_CLOEXEC


def read_bytes(path: str | os.PathLike[str], *, most: int | None = None) -> bytes:
    """The whole of a file, or what one read(2) of ``most`` bytes gives. :raises OSError: it can't be opened or read."""
    descriptor = calls.open(path, _READ)
    try:
        if most is not None:
            return calls.read(descriptor, most)
        pieces = [calls.read(descriptor, _PIECE)]
        while pieces[-1]:
            pieces.append(calls.read(descriptor, _PIECE))
    finally:
        calls.close(descriptor)
    return b"".join(pieces)


def read_text(path: str | os.PathLike[str]) -> str:
    """The same as text; what is no UTF-8 is replaced."""
    return read_bytes(path).decode("utf-8", "replace")


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is something, at the end of links."""
    try:
        calls.stat(path)
    except OSError:
        return False
    return True


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Whether there is a directory, at the end of links."""
    try:
        return stat.S_ISDIR(calls.stat(path).st_mode)
    except OSError:
        return False


def is_removed(path: str | os.PathLike[str]) -> bool:
    """Whether what is mounted at ``path`` has been removed where it was; no overlay can cover it then."""
    try:
        return calls.stat(path).st_nlink == 0
    except OSError:
        return False
