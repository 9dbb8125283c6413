"""A process that enters groups, to see whether processes can."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.linux import waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd

_SECONDS = 5.0  # for its answer
#: Moves itself to each file that it is told, and answers a line.
_PROGRAM = 'while read -r file; do if echo 0 >"$file"; then echo y; else echo n; fi; done 2>/dev/null'


class Entrant:
    """Such a process, as :func:`start` gives it."""

    def __init__(self, pid: int, asked: Fd, answers: Fd) -> None:
        self._pid, self._asked, self._answers = pid, asked, answers

    def enter(self, directory: str, file: str) -> None:
        """Enter a group by ``cgroup.procs``, or ``tasks`` of v1.

        Who moves itself by ``tasks`` does not wait for a lock, which takes 8 to 16 ms
        (kernel/cgroup/cgroup.c, cgroup_procs_write_start).

        :raises OSError: it can't.
        """
        if file == "tasks" and self._enters_by_itself(f"{directory}/{file}"):
            return
        cgroupfs.put(f"{directory}/cgroup.procs", str(self._pid))  # this tells why, if it fails

    def _enters_by_itself(self, path: str) -> bool:
        if "\n" in path:
            return False
        try:
            calls.write(self._asked, os.fsencode(path) + b"\n")
        except OSError:  # it has ended
            return False
        return bool(waiting.readable(self._answers, seconds=_SECONDS)) and calls.read(self._answers, 2) == b"y\n"


@contextmanager
def start() -> Iterator[Entrant]:
    """It has ended afterwards, so that the groups can be removed."""
    reader, asked = calls.pipe2(os.O_CLOEXEC)
    answers, writer = calls.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
        # Not by subprocess: a conftest.py file may have replaced that.
        pid = calls.posix_spawn("/bin/sh", ["sh", "-c", _PROGRAM], {}, file_actions=actions)
        try:
            yield Entrant(pid, Fd(asked), Fd(answers))
        finally:
            calls.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):  # a thread may wait for any child
                calls.waitpid(pid, 0)
    finally:
        for descriptor in (reader, asked, answers, writer):
            calls.close(descriptor)
