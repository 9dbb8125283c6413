"""Sockets and pipes that this process has open: a fork goes on with the same ones, whatever its namespaces."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pytest_isolate.linux.calls import calls


class Connection(NamedTuple):
    """A socket, or the end of a pipe."""

    descriptor: int
    device: int
    inode: int  #: with the device, no other one has it as long as this one is open


def list_connections() -> frozenset[Connection]:
    """All that this process has; none where that cannot be seen (proc_pid_fd(5))."""
    return frozenset(_find())


def is_open(connection: Connection) -> bool:
    """Whether it still is, and forks could take one another's data from it.

    They cannot from a listening socket, nor from a pipe that is only written to; and the project's own, which are of
    ``SOCK_SEQPACKET``, are not given to them.
    """
    descriptor = connection.descriptor
    try:
        status = calls.fstat(descriptor)
        if (status.st_dev, status.st_ino) != connection[1:]:
            return False
        if stat.S_ISFIFO(status.st_mode):
            return calls.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
        return _is_talked_through(descriptor)
    except OSError:
        return False


def _find() -> Iterator[Connection]:
    with suppress(OSError):
        for name in calls.listdir("/proc/self/fd"):
            with suppress(OSError):  # the listing's own, which is closed
                status = calls.fstat(int(name))
                if stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode):
                    yield Connection(int(name), status.st_dev, status.st_ino)


def _is_talked_through(descriptor: int) -> bool:
    import socket  # noqa: PLC0415 - only if there is one

    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return copy.type != socket.SOCK_SEQPACKET and not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
