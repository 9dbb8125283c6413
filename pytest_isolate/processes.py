"""Starts the processes beside this one: each gets a control socket and learns of this one's end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping

from pytest_isolate import native
from pytest_isolate.errors import SetupError

_CONTROL = 3  #: where the program expects the first of what it is given
_BEYOND = 6  #: the first number that it expects nothing at


def start(
    what: str, program: str, arguments: list[str], environment: Mapping[str, str], *, fifth: int | None = None
) -> tuple[int, socket.socket]:
    """Run a program; its pid, and our end of its control socket, a SOCK_SEQPACKET one.

    It finds its own end as descriptor 3 and a pidfd of this process as 4, and nothing at the standard ones.

    :param what: what it is called in an error.
    :param fifth: a descriptor that it finds as 5.
    :raises SetupError: if it can't be started.
    """
    with contextlib.ExitStack() as passed, contextlib.ExitStack() as undo:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(ours)
            passed.enter_context(theirs)
            keeper = native.pidfd_open(os.getpid())
            passed.callback(os.close, keeper)
            actions: list[tuple[object, ...]] = []
            for number, fd in enumerate([theirs.fileno(), keeper, *([] if fifth is None else [fifth])], _CONTROL):
                apart = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _BEYOND)
                passed.callback(os.close, apart)
                actions.append((os.POSIX_SPAWN_DUP2, apart, number))
            actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(_CONTROL)]
            pid = os.posix_spawn(program, arguments, environment, file_actions=actions)
        except OSError as error:
            raise SetupError(f"start the {what}", program, error.errno or 0) from error
        undo.pop_all()
    return pid, ours
