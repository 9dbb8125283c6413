"""Directories in trees that are not to be trusted: opened name by name, no link followed (openat(2))."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pytest_isolate.linux.calls import calls


def open_directory(top: int, names: Sequence[str], flags: int = os.O_RDONLY) -> int:
    """Open the directory at ``names`` below the open directory ``top``; close-on-exec, to be closed by the caller.

    :raises FileNotFoundError: it is not there. :raises NotADirectoryError: something else is, or is on the way.
    """
    flags |= os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = top
    for name in names or (".",):
        above = at
        try:
            at = calls.open(name, flags, dir_fd=above)
        finally:
            if above != top:
                calls.close(above)
    return at
