from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import processes
from pytest_isolate.sandbox.processes import Processes
from pytest_isolate.spec.errors import SetupError


class NoGroups:
    """Where there are no control groups."""

    def freeze(self, name: str) -> bool:
        raise NotImplementedError

    def thaw(self, name: str) -> None:
        raise NotImplementedError

    def processes(self, name: str) -> tuple[int, ...]:
        del name
        return ()


@contextmanager
def sleeper() -> Iterator[Processes]:
    """A process that sleeps, and is PID 1 of its sandbox, too."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(1)
    pidfd = Fd(os.pidfd_open(pid))
    try:
        yield Processes(pid=pid, pidfd=pidfd, init=(pid, pidfd), contained=True, groups=NoGroups(), name="t1")
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def test_a_killed_process_is_reaped_as_soon_as_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_LOOK_SECONDS", "it was looked at again, though nobody traces it")  # no seconds
    for _ in range(20):
        with sleeper() as killed:
            killed.begin_to_kill()
            status, _ = killed.reap()
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert not killed.init_died


def test_nobody_knows_how_a_process_ended_that_somebody_else_has_waited_for() -> None:
    with sleeper() as killed:
        killed.begin_to_kill()
        os.waitpid(killed.pid, 0)

        with pytest.raises(SetupError, match=r"cannot wait for the test.* ECHILD .* have it wait for its own children"):
            killed.reap()
        killed.kill()
