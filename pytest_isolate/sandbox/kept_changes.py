"""What stays of the changes that a session sandbox is thrown away with: told apart from the rest, and copied out.

The files go to their own paths on the host, each in one step, so that nobody reads half of one. What is read lies in
the writable layers, whose processes have all ended; no link in them is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.linux.native import Fd
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.linux.remove_tree import remove_tree
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.sandbox.copy_out import copy_file
from pytest_isolate.sandbox.outcome import Change

_BYTECODE = "__pycache__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Absolute paths without links, as pytest names them."""

    trees: tuple[str, ...] = ()  #: files, and directories with all in them
    prefixes: tuple[str, ...] = ()  #: beginnings of files' paths, as ``/project/.coverage.``
    project: tuple[str, ...] = ()  #: trees, in which ``folders`` are
    folders: tuple[str, ...] = ()  #: names of directories that stay with all in them, wherever they are there
    temporary: tuple[str, ...] = ()  #: trees whose changes are not worth a word

    def split(self, changes: Iterable[Change]) -> tuple[list[Change], list[Change]]:
        """The changes that stay, and the rest but for what is temporary."""
        staying, rest = [], []
        for change in changes:
            if self._names(change.path):
                staying.append(change)
            elif not any(_within(change.path, tree) for tree in self.temporary):
                rest.append(change)
        thrown = {change.path for change in rest}
        bytecode = [change for change in rest if _is_bytecode(change, thrown)]
        staying += bytecode
        made = {change.path for change in bytecode}
        folders = {os.path.dirname(path) for path in made}  # which are made with what is in them
        folders |= {os.path.dirname(change.path) for change in staying if change.kind != "D"}
        return staying, [each for each in rest if each.path not in made and not _leads_to(each, folders)]

    def _names(self, path: str) -> bool:
        if any(_within(path, tree) for tree in self.trees) or path.startswith(self.prefixes):
            return True
        return not set(self.folders).isdisjoint(path.split("/")) and any(_within(path, tree) for tree in self.project)


def take(scratch: Fd, layers: Sequence[WritableLayer], changes: Iterable[Change]) -> list[str]:
    """Make the changes on the host; what could not be done, each with the reason."""
    lost = []
    for change in changes:
        try:
            if change.kind == "D":
                _remove(change.path)
            else:
                _put(scratch, layers, change.path)
        except OSError as error:
            lost.append(f"{change.path}: {error.strerror}")
    return lost


def _within(path: str, tree: str) -> bool:
    return path == tree or below(path, tree)


def _is_bytecode(change: Change, thrown: set[str]) -> bool:
    """Whether it is of a module that stays as it is, so that it is of use to the next run."""
    folder, name = os.path.split(change.path)
    if change.kind == "D" or os.path.basename(folder) != _BYTECODE or not name.endswith(".pyc"):
        return False
    source = os.path.join(os.path.dirname(folder), f"{name.partition('.')[0]}.py")
    return source not in thrown and calls.access(source, os.R_OK)


def _leads_to(change: Change, folders: set[str]) -> bool:
    """Whether it is a new directory that is made on the way to what stays."""
    return change.kind == "A" and any(_within(folder, change.path) for folder in folders)


def _remove(path: str) -> None:
    if stat.S_ISDIR(calls.lstat(path).st_mode):
        remove_tree(Path(path))
    else:
        calls.unlink(path)


def _put(scratch: Fd, layers: Sequence[WritableLayer], path: str) -> None:
    layer = max((each for each in layers if _within(path, each.seen)), key=lambda layer: len(layer.seen))
    folder, name = os.path.split(path)
    way = [] if folder == layer.seen else os.path.relpath(folder, layer.seen).split("/")
    os.makedirs(folder, exist_ok=True)
    with contextlib.ExitStack() as closing:
        source = open_directory(scratch, [*layer.upper.split("/"), *way])
        closing.callback(calls.close, source)
        target = calls.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        closing.callback(calls.close, target)
        status = calls.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(FileExistsError):
                calls.mkdir(name, stat.S_IMODE(status.st_mode) & 0o777, dir_fd=target)
            return
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(calls.lstat(path).st_mode):
                remove_tree(Path(path))
        _replace(source, target, name, status)


def _replace(source: int, target: int, name: str, status: os.stat_result) -> None:
    beside = f".{name[:200]}.isolate-{calls.getpid()}"
    try:
        if not _copy_beside(source, target, name, beside, status):
            return
        os.rename(beside, name, src_dir_fd=target, dst_dir_fd=target)
    except OSError:  # of a full disk, for one
        with contextlib.suppress(OSError):
            calls.unlink(beside, dir_fd=target)
        raise


def _copy_beside(source: int, target: int, name: str, beside: str, status: os.stat_result) -> bool:
    """Whether it is of a kind that can be kept."""
    if stat.S_ISLNK(status.st_mode):
        calls.symlink(calls.readlink(name, dir_fd=source), beside, dir_fd=target)
        return True
    if not stat.S_ISREG(status.st_mode):
        return False  # a socket, or a pipe, whose processes have ended
    copy_file(source, target, name, beside)
    if calls.geteuid() == 0:
        os.chown(beside, status.st_uid, status.st_gid, dir_fd=target)
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target)
    return True
