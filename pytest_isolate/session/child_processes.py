"""The child processes of pytest: what fixtures of higher scope have started, and tests ask after."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

from pytest_isolate.linux import files, native, procfs
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd

_ANY = os.WEXITED | os.WNOHANG | os.WNOWAIT


class ChildProcesses:
    """A pidfd of each, which a sandbox inherits.

    In there it tells that the process has ended, and nothing else: no signal that is sent by it leaves the pid
    namespace (pidfd_send_signal(2)).
    """

    def __init__(self) -> None:
        self._pidfds: dict[int, Fd] = {}

    def look(self, but: Collection[int] = ()) -> dict[int, Fd]:
        """A pidfd for each pid, also of those that have ended and that nobody has waited for.

        :param but: children that are tests.
        """
        pids = _list().difference(but) if _are_there() else set()
        for pid in [*self._pidfds]:
            if pid not in pids:
                calls.close(self._pidfds.pop(pid))
        for pid in pids - self._pidfds.keys():
            with suppress(OSError):  # it has ended, and a thread has waited for it; or there are too many files
                self._pidfds[pid] = native.pidfd_open(pid)
        return dict(self._pidfds)

    def close(self) -> None:
        """Close all."""
        while self._pidfds:
            calls.close(self._pidfds.popitem()[1])


def _are_there() -> bool:
    """Whether there is any: one system call, where most sessions have none."""
    try:
        calls.waitid(os.P_ALL, 0, _ANY)
    except ChildProcessError:
        return False
    return True


def _list() -> set[int]:
    """Those of all threads (proc_tid_children(5)); a kernel need not have that file."""
    found: set[int] = set()
    try:
        for thread in calls.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # the thread has ended
                found.update(int(pid) for pid in files.read_bytes(f"/proc/self/task/{thread}/children").split())
    except FileNotFoundError:
        own = calls.getpid()
        return {pid for pid, parent in procfs.parents(procfs.PROC).items() if parent == own}
    return found
