"""A session's directory on disk for writable layers, where a tmpfs can't hold them (rootless before Linux 6.6)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_isolate.cgroups.names import is_dead_session


@contextmanager
def directory(place: str, name: str) -> Iterator[str]:
    """Make ``place/name``, private, and remove it afterwards; first of all, what sessions that were killed left.

    :param name: :func:`~pytest_isolate.cgroups.session_name`, which tells whose it is, a full stop, and the worker.
    """
    for old in Path(place).glob("pytest-isolate-*"):
        if old.stat().st_uid == os.geteuid() and is_dead_session(old.name.partition(".")[0]):
            remove(old)
    path = Path(place, name)
    path.mkdir(mode=0o700)
    try:
        yield str(path)
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a tree in which overlayfs and tests may have left directories without permissions."""
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
