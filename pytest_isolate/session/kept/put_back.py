"""Makes the changes of a kept layer once more: in a new sandbox, by a process that has entered it like a test.

So each file gets into the layer that shows at its path, whatever the layout, and counts for the sandbox's limits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.linux.remove_tree import remove_tree
from pytest_isolate.sandbox.copy_out import copy_content

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def put_back(top: int, changes: Iterable[tuple[str, str]]) -> list[str]:
    """Make ``changes`` (kind and path, folders before what is in them); what could not be made, each with the reason.

    :param top: the open directory that has the files, each at its path.
    """
    lost, folders = [], []
    for kind, path in changes:
        try:
            if kind == "D":
                _remove(path)
            elif (mode := _make(top, path)) is not None:
                folders.append((path, mode))
        except OSError as error:
            lost.append(f"{path}: {error.strerror}")
    for path, mode in reversed(folders):  # at last: it may be one that nobody can write to
        with suppress(OSError):
            calls.chmod(path, mode)
    return lost


def _make(top: int, path: str) -> int | None:
    """Make what was added or modified; the mode of a folder."""
    *way, name = path.strip("/").split("/")
    source = open_directory(top, way)
    try:
        status = calls.stat(name, dir_fd=source, follow_symlinks=False)
        if not os.path.isdir(os.path.dirname(path)):  # of a temporary folder that pytest has removed since, for one
            os.makedirs(os.path.dirname(path))
        if stat.S_ISDIR(status.st_mode):
            if not _is_folder(path):
                _remove(path)
                calls.mkdir(path, 0o700)
            return stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            _remove(path)
            calls.symlink(calls.readlink(name, dir_fd=source), path)
        else:
            _write(source, name, path)
        return None
    finally:
        calls.close(source)


def _write(source: int, name: str, path: str) -> None:
    old = calls.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        try:
            new = calls.open(path, _NEW, 0o600)
        except OSError:  # a folder, a link, or a file that only its folder's owner may replace
            _remove(path)
            new = calls.open(path, _NEW, 0o600)
        try:
            status = calls.fstat(old)
            copy_content(old, new, status.st_size)
            with suppress(PermissionError):  # somebody else's
                calls.fchmod(new, stat.S_IMODE(status.st_mode))
        finally:
            calls.close(new)
    finally:
        calls.close(old)


def _is_folder(path: str) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(calls.lstat(path).st_mode)
    return False


def _remove(path: str) -> None:
    if _is_folder(path):
        remove_tree(Path(path))
    else:
        with suppress(FileNotFoundError):
            calls.unlink(path)
