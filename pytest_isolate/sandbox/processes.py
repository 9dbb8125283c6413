"""The child and all processes of its sandbox, from outside: named, killed, and the child reaped."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pytest_isolate.linux import native, procfs, waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.linux.procfs import members, state
from pytest_isolate.sandbox.child import DUMP_SIGNAL
from pytest_isolate.spec.errors import SetupError

_STACKS_SECONDS = 1.0  # patience for faulthandler's dump; it takes milliseconds
_KILLED_SECONDS = 60.0  # for a killed process to go, whose memory may take the kernel seconds
_TAKEN = (
    "A thread of pytest's process has waited for it, as one does that waits for any child: have it wait for its own "
    "children, each by its pid."
)
_LOOK_SECONDS = 0.1  # between looks whether a tracer has let go of it


class Groups(Protocol):
    """What is needed of a cgroup tree to end a sandbox."""

    def freeze(self, name: str) -> bool:
        """Stop all processes of the group."""

    def thaw(self, name: str) -> None:
        """Undo it."""

    def processes(self, name: str) -> tuple[int, ...]:
        """Pids in the group."""


@dataclass(kw_only=True, eq=False, repr=False)
class Processes:
    """The child is a process of this one, until it is reaped."""

    pid: int  #: of the child
    pidfd: Fd
    init: tuple[int, Fd]  #: pid and pidfd of the sandbox's PID 1
    contained: bool  #: the child is in PID 1's pid namespace, and dies with it; always, but when degraded
    groups: Groups
    name: str  #: of its cgroup directory
    init_died: bool = field(default=False, init=False)  #: PID 1, which took the child with it, and not by us
    _killed: bool = field(default=False, init=False)  # by us
    _lost: bool = field(default=False, init=False)  # killed, and does not go

    @property
    def lost(self) -> bool:
        """Whether the child was killed, and does not go."""
        return self._lost

    def pids(self) -> Iterable[int]:
        """Those alive, as known outside."""
        known = self.groups.processes(self.name)
        return known or (members(self.init[0]) if self.contained else [self.pid])

    def dump_stacks(self, stacks: Fd) -> None:
        """Have faulthandler write the child's to the file ``stacks``."""
        if state(self.pid) in ("T", "t", "Z"):  # a stopped process runs no handler
            return
        with contextlib.suppress(OSError):
            native.send_unblocked(self.pid, DUMP_SIGNAL)
        patience, size = calls.monotonic() + _STACKS_SECONDS, -1
        while calls.monotonic() < patience and not waiting.readable(self.pidfd, seconds=0):
            now = calls.fstat(stacks).st_size
            if now and now == size:
                return  # complete: it has not grown for a while
            size = now
            calls.sleep(0.02)

    def end(self) -> tuple[str, ...]:
        """Kill them; what they were, a line for each."""
        states = {pid: state(pid) for pid in self.pids()}  # first, as a frozen process is in state D
        frozen = self.groups.freeze(self.name)
        lines = tuple(self._describe(pid, states) for pid in sorted(self.pids()))
        self.begin_to_kill()
        if frozen:
            self.groups.thaw(self.name)  # on v1 a frozen process cannot die
        return lines

    def begin_to_kill(self) -> None:
        """Kill them, and wait for none of them. Not once the child has been reaped."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            if self.contained:  # with PID 1 the kernel kills all of its pid namespace (pid_namespaces(7))
                calls.pidfd_send_signal(self.init[1], signal.SIGKILL)
                return
            calls.killpg(self.pid, signal.SIGKILL)
        for pid in self.groups.processes(self.name):
            with contextlib.suppress(ProcessLookupError):
                calls.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """End them, and wait for the child. Harmless if it has been reaped."""
        if self._lost:
            return
        self.begin_to_kill()
        # Reaped already if an interrupt came between the wait and the note of its result.
        with contextlib.suppress(ChildProcessError):
            self._wait()

    def reap(self) -> tuple[int, resource.struct_rusage]:
        """Wait for the child, which ends now: its status, as waitpid gives it, and what it used.

        :raises SetupError: it has not gone, long after it was killed; or somebody else has waited for it.
        """
        try:
            return self._wait()
        except ChildProcessError as error:
            raise SetupError(f"wait for the test's process {self.pid}", "", error.errno or 0, _TAKEN) from error

    def _wait(self) -> tuple[int, resource.struct_rusage]:
        if not self.contained:
            # Nobody else ends what it left running. Before it is reaped, as its number, also of its group, is its own.
            waiting.readable(self.pidfd, seconds=_KILLED_SECONDS)
            self.begin_to_kill()
        deadline, has_ended = calls.monotonic() + _KILLED_SECONDS, False
        while True:
            pid, status, rusage = calls.wait4(self.pid, os.WNOHANG)
            if pid:
                self.init_died = os.WTERMSIG(status) == signal.SIGKILL and self._init_is_gone()
                return status, rusage
            if calls.monotonic() >= deadline:
                self._lost = True
                raise SetupError(f"end the test's process {self.pid}", "", errno.ETIMEDOUT, self._why_it_stays())
            if has_ended:  # traced by another process: for us it ends only when that one has seen it (ptrace(2))
                calls.sleep(_LOOK_SECONDS)
            has_ended = bool(waiting.readable(self.pidfd, seconds=deadline - calls.monotonic()))

    def _init_is_gone(self) -> bool:
        """Whether PID 1 ended, or is about to: it is not dead before all of its pid namespace have been reaped."""
        if not self.contained or self._killed:
            return False
        return bool(waiting.readable(self.init[1], seconds=0)) or procfs.is_exiting(self.init[0])

    def _why_it_stays(self) -> str:
        status = _status(self.pid)
        if (tracer := status.get("TracerPid", "0")) != "0":
            return f"It has ended, but process {tracer} traces it and has not taken note of that: end that one."
        return (
            f"It was killed, but is in state {status.get('State', '?')}: no signal interrupts the system call that it "
            f"is in, see /proc/{self.pid}/stack. Look for what that waits for, as a file server that does not answer."
        )

    def _describe(self, pid: int, states: dict[int, str]) -> str:
        """``PID STATE COMMAND`` with the pid as the test knows it."""
        status = _status(pid)
        inside = status.get("NSpid", str(pid)).split()[-1]
        state = states.get(pid) or status.get("State", "?")[:1]
        command = procfs.read(pid, "cmdline").replace("\0", " ").strip() or status.get("Name", "")
        return f"{inside} {state} {'(the test itself)' if pid == self.pid else command[:200]}"


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in procfs.read(pid, "status").splitlines() if ":\t" in line)
