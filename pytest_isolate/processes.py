"""Starts the processes beside this one: each gets a control socket and learns of this one's end."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from pytest_isolate import native
from pytest_isolate.errors import SetupError


def start(
    what: str, program: str, arguments: list[str], environment: Mapping[str, str], *, fifth: int | None = None
) -> tuple[int, socket.socket]:
    """Run a program; its pid, and our end of its control socket, a SOCK_SEQPACKET one.

    It finds its own end as descriptor 3 and a pidfd of this process as 4, and nothing at the standard ones.

    :param what: what it is called in an error.
    :param fifth: a descriptor that it finds as 5.
    :raises SetupError: if it can't be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = native.pidfd_open(os.getpid())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # First out of the way of each other, then to where they are expected.
    given = [theirs.fileno(), keeper, *([] if fifth is None else [fifth])]
    actions = [(os.POSIX_SPAWN_DUP2, fd, 1000 + number) for number, fd in enumerate(given)]
    actions += [(os.POSIX_SPAWN_DUP2, 1000 + number, 3 + number) for number in range(len(given))]
    actions += [(os.POSIX_SPAWN_CLOSE, 1000 + number) for number in range(len(given))]  # type: ignore[misc]
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
