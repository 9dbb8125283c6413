"""Starts the processes beside this one: each gets a control socket and learns of this one's end."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from pytest_isolate import native
from pytest_isolate.errors import SetupError


def start(what: str, program: str, arguments: list[str], environment: Mapping[str, str]) -> tuple[int, socket.socket]:
    """Run a program; its pid, and our end of its control socket, a SOCK_SEQPACKET one.

    It finds its own end as descriptor 3 and a pidfd of this process as 4, and nothing at the standard ones.

    :param what: what it is called in an error.
    :raises SetupError: if it can't be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = native.pidfd_open(os.getpid())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # First out of the way of each other, then to where they are expected.
    actions = [(os.POSIX_SPAWN_DUP2, fd, high) for fd, high in ((theirs.fileno(), 1000), (keeper, 1001))]
    actions += [(os.POSIX_SPAWN_DUP2, 1000, 3), (os.POSIX_SPAWN_DUP2, 1001, 4)]
    actions += [(os.POSIX_SPAWN_CLOSE, 1000), (os.POSIX_SPAWN_CLOSE, 1001)]  # type: ignore[list-item]
    actions += [(os.POSIX_SPAWN_DUP2, null, stdio) for stdio in range(3)]
    try:
        pid = os.posix_spawn(program, arguments, environment, file_actions=actions)
    except OSError as error:
        ours.close()
        raise SetupError(f"start the {what}", program, error.errno or 0) from error
    finally:
        theirs.close()
        os.close(keeper)
        os.close(null)
    return pid, ours
