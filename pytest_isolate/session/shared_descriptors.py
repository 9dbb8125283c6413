"""Sockets, pipes and files that this process has open: a fork goes on with the same ones, whatever its namespaces."""

from __future__ import annotations

import _socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pytest_isolate.linux.calls import calls

_FILES = "/proc/self/fd"
_MEMORY = "/memfd:"  # how the name of a file begins that is none of a file system; those of this project are such


class Descriptor(NamedTuple):
    """A socket, the end of a pipe, or a file."""

    number: int
    device: int
    inode: int  #: with the device, no other one has it as long as this one is open


def list_open() -> frozenset[Descriptor]:
    """All that this process has; none where that cannot be seen (proc_pid_fd(5))."""
    return frozenset(_find())


def kind(descriptor: Descriptor) -> str:
    """What it is: socket, pipe, file."""
    mode = calls.fstat(descriptor.number).st_mode
    return "socket" if stat.S_ISSOCK(mode) else "pipe" if stat.S_ISFIFO(mode) else "file"


def is_shared(descriptor: Descriptor) -> bool:
    """Whether it is still open, and forks that use it at the same time would disturb one another.

    Of a socket or pipe each takes the other's data, or tells a process what the other does not expect. Of a file they
    share the offset (fork(2)), so that one reads and writes where the other has gone to. A listening socket does not
    count; and the project's own, which are of ``SOCK_SEQPACKET``, are not given to forks.
    """
    number = descriptor.number
    try:
        status = calls.fstat(number)
        if (status.st_dev, status.st_ino) != descriptor[1:]:
            return False
        return not stat.S_ISSOCK(status.st_mode) or _is_talked_through(number)
    except OSError:
        return False


def _find() -> Iterator[Descriptor]:
    with suppress(OSError):
        for name in calls.listdir(_FILES):
            with suppress(OSError):  # the listing's own, which is closed
                status = calls.fstat(int(name))
                if _may_be_shared(name, status.st_mode):
                    yield Descriptor(int(name), status.st_dev, status.st_ino)


def _may_be_shared(name: str, mode: int) -> bool:
    if stat.S_ISREG(mode):
        return not calls.readlink(f"{_FILES}/{name}").startswith(_MEMORY)
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def _is_talked_through(number: int) -> bool:
    socket = calls.socket(fileno=number)
    try:
        return socket.type != _socket.SOCK_SEQPACKET and not socket.getsockopt(
            _socket.SOL_SOCKET, _socket.SO_ACCEPTCONN
        )
    finally:
        socket.detach()
