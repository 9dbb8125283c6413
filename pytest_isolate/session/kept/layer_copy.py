"""Copies what a test changed out of its writable layers, into one tree that has each file at its own path.

The test made what is read here, and processes that it left running may still change it: each step is relative to the
directory above and follows no link (openat(2)). Directories, regular files and links are taken; device nodes, sockets
and pipes are not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.linux.native import Fd
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.sandbox.copy_out import copy_file
from pytest_isolate.sandbox.outcome import Change

#: Bytes that each entry counts beside its data: many empty files take room as well.
_ENTRY_BYTES = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def layer_of(path: str, layers: Sequence[WritableLayer]) -> WritableLayer:
    """The layer that shows at ``path``."""
    covering = [layer for layer in layers if path == layer.seen or below(path, layer.seen)]
    return max(covering, key=lambda layer: len(layer.seen))


def measure(scratch: Fd, layers: Sequence[WritableLayer], changes: Iterable[Change]) -> int:
    """Bytes on disk of what :func:`copy` would take; holes of files count nothing."""
    total = 0
    for change in changes:
        total += _ENTRY_BYTES
        if change.kind != "D":
            with suppress(OSError), _source(scratch, layers, change.path) as (folder, name):
                total += calls.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
    return total


def copy(scratch: Fd, layers: Sequence[WritableLayer], changes: Iterable[Change], top: int) -> list[str]:
    """Copy what was added or modified to the open directory ``top``; what could not be copied, each with the reason.

    :raises OSError: the disk is full.
    """
    lost = []
    for change in changes:
        if change.kind == "D":
            continue
        try:
            with _source(scratch, layers, change.path) as (source, name), _target(top, change.path) as target:
                _copy_entry(source, target, name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            lost.append(f"{change.path}: {error.strerror}")
    return lost


def _copy_entry(source: int, target: int, name: str) -> None:
    status = calls.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        with suppress(FileExistsError):
            calls.mkdir(name, 0o700, dir_fd=target)
        folder = calls.open(name, _DIRECTORY, dir_fd=target)
        try:  # never without the owner's own rights: what is in it is to be copied, and removed one day
            calls.fchmod(folder, status.st_mode & 0o777 | 0o700)
        finally:
            calls.close(folder)
    elif stat.S_ISLNK(status.st_mode):
        calls.symlink(calls.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISREG(status.st_mode):
        copy_file(source, target, name, name)
    else:
        raise OSError(errno.ENOTSUP, "a device node, a socket or a pipe is not kept")


@contextmanager
def _source(scratch: Fd, layers: Sequence[WritableLayer], path: str) -> Iterator[tuple[int, str]]:
    """The open directory of the layer that has ``path``, and its name there."""
    layer = layer_of(path, layers)
    folder, name = os.path.split(path)
    way = [] if folder == layer.seen else os.path.relpath(folder, layer.seen).split("/")
    if path == layer.seen:  # the root of an overlay, which has another name there
        folder, name = os.path.split(f"/{layer.upper}")
        way, layer = folder.split("/")[1:], WritableLayer(upper=".", seen="/")
    fd = open_directory(scratch, [*layer.upper.split("/"), *filter(None, way)])
    try:
        yield fd, name
    finally:
        calls.close(fd)


@contextmanager
def _target(top: int, path: str) -> Iterator[int]:
    """The open directory that ``path`` is to be in; made, with those above."""
    with contextlib.ExitStack() as closing:
        at = top
        for name in filter(None, os.path.dirname(path).split("/")):
            with suppress(FileExistsError):
                calls.mkdir(name, 0o700, dir_fd=at)
            at = calls.open(name, _DIRECTORY, dir_fd=at)
            closing.callback(calls.close, at)
        yield at
