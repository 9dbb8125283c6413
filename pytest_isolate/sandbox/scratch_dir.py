"""A session's directory on disk for writable layers, where a tmpfs can't hold them (rootless before Linux 6.6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_isolate.cgroups.session_names import is_dead_session
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.remove_tree import remove_tree


@contextmanager
def directory(place: str, name: str) -> Iterator[str]:
    """:func:`make` it, and remove it afterwards."""
    path = make(place, name)
    try:
        yield str(path)
    finally:
        remove_tree(path, ignore_errors=True)


def make(place: str, name: str) -> Path:
    """Make ``place/name``, private; first of all, remove what sessions that were killed left.

    :param name: :func:`~pytest_isolate.cgroups.session_names.session_name`, which tells whose it is, a full stop, and
        the worker.
    """
    for old in Path(place).glob("pytest-isolate-*"):
        with suppress(FileNotFoundError):  # another session sweeps as well
            if is_dead_session(old.name.partition(".")[0]) and old.stat().st_uid == calls.geteuid():
                remove_tree(old, ignore_errors=True)
    path = Path(place, name)
    path.mkdir(mode=0o700)
    return path
