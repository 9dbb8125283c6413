"""Takes files out of a sandbox's writable layer before that is thrown away.

What lies there a test has made, and what it left running may still change it. So nothing is opened by a path that could
lead elsewhere: each step is relative to the directory above and follows no link. Only directories, regular files and
links are taken, with their permissions but no set-user-ID; a hole in a file stays one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.linux.native import Fd
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.plan.plan import WritableLayer

_DEEPEST = 100  # directories within directories, each of which takes two descriptors while it is copied
_HERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # of a FIFO, not to wait for its other end


def take_new(scratch: Fd, layers: Iterable[WritableLayer], directory: str) -> list[str]:
    """Copy to the host's ``directory`` whatever the test has put there under a name that the host has not.

    A link takes the place of a link: pytest's ``...current`` leads to the latest directory of the name.

    :param scratch: the sandbox's scratch directory, which the layers are in.
    :returns: what could not be copied, each with the reason.
    """
    source = _within(scratch, layers, directory)
    if source is None:
        return []
    with contextlib.ExitStack() as closing:
        closing.callback(calls.close, source)
        try:
            target = calls.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            return [f"{directory}: {error.strerror}"]
        closing.callback(calls.close, target)
        copier = _Copier()
        known = {*calls.listdir(target)}
        for name in sorted(calls.listdir(source)):
            if name in known:
                if not (_is_link(source, name) and _is_link(target, name)):
                    continue
                calls.unlink(name, dir_fd=target)
            copier.copy(source, target, f"{directory}/{name}")
        return copier.lost


def _within(scratch: Fd, layers: Iterable[WritableLayer], directory: str) -> Fd | None:
    """The part of the writable layers that shows at ``directory``; None if the test has put nothing there."""
    covering = [layer for layer in layers if layer.seen == directory or below(directory, layer.seen)]
    if not covering:
        return None
    layer = max(covering, key=lambda layer: len(layer.seen))
    names = os.path.relpath(directory, layer.seen).split("/") if directory != layer.seen else []
    try:
        return Fd(open_directory(scratch, [*layer.upper.split("/"), *names]))
    except OSError:  # not there, or no directory any more
        return None


def _is_link(directory: int, name: str) -> bool:
    return stat.S_ISLNK(calls.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


class _Copier:
    """Copies entries of one open directory to another."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self._depth = 0

    def copy(self, source: int, target: int, path: str) -> None:
        """Copy the entry that has ``path``'s name."""
        name = os.path.basename(path)
        try:
            status = calls.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                calls.symlink(calls.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISREG(status.st_mode):
                copy_file(source, target, name, name)
            elif stat.S_ISDIR(status.st_mode):
                self._copy_directory(source, target, path)
        except OSError as error:
            self.lost.append(f"{path}: {error.strerror}")

    def _copy_directory(self, source: int, target: int, path: str) -> None:
        if self._depth == _DEEPEST:
            self.lost.append(f"{path}: too many directories within directories")
            return
        name = os.path.basename(path)
        calls.mkdir(name, 0o700, dir_fd=target)
        with contextlib.ExitStack() as closing:
            new = calls.open(name, _HERE | os.O_DIRECTORY, dir_fd=target)
            closing.callback(calls.close, new)
            old = calls.open(name, _HERE | os.O_DIRECTORY, dir_fd=source)
            closing.callback(calls.close, old)
            self._depth += 1
            for inner in calls.listdir(old):
                self.copy(old, new, f"{path}/{inner}")
            self._depth -= 1
            calls.fchmod(new, calls.fstat(old).st_mode & 0o777)


def copy_file(source: int, target: int, name: str, new_name: str) -> None:
    """Copy a regular file from one open directory to another, under a name that is not there yet."""
    with contextlib.ExitStack() as closing:
        old = _open_file(name, source)
        closing.callback(calls.close, old)
        status = calls.fstat(old)
        if not stat.S_ISREG(status.st_mode):
            return
        new = calls.open(new_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        closing.callback(calls.close, new)
        copy_content(old, new, status.st_size)
        calls.fchmod(new, status.st_mode & 0o777)


def _open_file(name: str, directory: int) -> int:
    """For reading, also where the mode refuses that: it is the owner's, and another one only meanwhile."""
    try:
        return calls.open(name, _HERE, dir_fd=directory)
    except PermissionError:
        found = calls.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = stat.S_IMODE(calls.fstat(found).st_mode)
        path = f"/proc/self/fd/{found}"  # of this very file, whatever has its name by now
        calls.chmod(path, mode | stat.S_IRUSR)
        try:
            return calls.open(path, _HERE & ~os.O_NOFOLLOW)
        finally:
            calls.chmod(path, mode)
    finally:
        calls.close(found)


def copy_content(old: int, new: int, size: int) -> None:
    """Copy what a file has to one that is empty; holes stay holes."""
    for begin, end in _filled(old, size):
        calls.lseek(new, begin, os.SEEK_SET)
        while begin < end and (copied := calls.sendfile(new, old, begin, end - begin)):
            begin += copied  # noqa: PLW2901 - as far as it got
    calls.truncate(new, size)


def _filled(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the file's data is; the rest are holes, which could be larger than any disk."""
    end = 0
    while end < size:
        try:
            begin = calls.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # ENXIO: no more
            return
        end = min(calls.lseek(fd, begin, os.SEEK_HOLE), size)
        yield begin, end
