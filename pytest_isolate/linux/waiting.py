"""Waiting with an end."""

from __future__ import annotations

import os
from select import POLLIN, POLLOUT

from pytest_isolate.linux.calls import calls

_PID_MOST = 1 << 22  # PID_MAX_LIMIT of the kernel's linux/threads.h


def readable(*fds: int, seconds: float) -> list[int]:
    """Those of ``fds`` that can be read, or whose other end has gone, once there is one; none after ``seconds``."""
    return _wait(fds, POLLIN, seconds)


def writable(fd: int, *, seconds: float) -> bool:
    """Whether ``fd`` takes more, or will never again, within ``seconds``."""
    return bool(_wait((fd,), POLLOUT, seconds))


def exit_status(pid: int) -> int | None:
    """How a child of this process ended: its exit code, or the negative signal. It can still be waited for.

    None: it has not ended, or there is no such child.
    """
    if not 0 < pid <= _PID_MOST:  # the call would refuse it by other errors
        return None
    try:
        end = calls.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if end is None:
        return None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def _wait(fds: tuple[int, ...], events: int, seconds: float) -> list[int]:
    waiting = calls.poll()  # select() takes no descriptor beyond 1023, which a process with many files has
    for fd in fds:
        if fd >= 0:  # else it has been closed
            waiting.register(fd, events)
    return [fd for fd, _ in waiting.poll(max(0, seconds * 1000))]
