"""Watching one run from outside: takes its messages, keeps its deadline, and ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pytest_isolate import native, wire
from pytest_isolate.cgroups.interface import Reading
from pytest_isolate.errors import SetupError
from pytest_isolate.guest import DUMP_SIGNAL, Frame
from pytest_isolate.native import Fd
from pytest_isolate.terminal import Terminal

_PIECE = 1 << 16  # what a pipe holds (pipe(7))
_STACKS_SECONDS = 1.0  # patience for faulthandler's dump; it takes milliseconds
_INTERRUPT_SECONDS = 1.5  # for the test to tear down, which most do in milliseconds; the whole run is to end within two
_POLL_MOST = 1e9  # milliseconds, not quite the largest number that poll(2) takes; then it is called again
_STACKS_BYTES = 1 << 20  # of a dump that is kept


class Groups(Protocol):
    """What is needed of a cgroup tree at a time-out, and when the test asks what it has used."""

    def read(self, name: str) -> Reading:
        """The figures of the group so far."""

    def freeze(self, name: str) -> bool:
        """Stop all processes of the group."""

    def thaw(self, name: str) -> None:
        """Undo it."""

    def processes(self, name: str) -> tuple[int, ...]:
        """Pids in the group."""


@dataclass(kw_only=True)
class Run:
    """One child at work, and what is known of it so far."""

    pid: int
    pidfd: Fd
    channel: Fd  #: read end
    bell: Fd  #: socket, non-blocking: what the child cannot wait with
    stacks: Fd
    name: str  #: of its cgroup directory
    init: tuple[int, Fd]  #: pid and pidfd of the sandbox's PID 1
    contained: bool  #: the child is in PID 1's pid namespace, and dies with it; always, but when degraded
    groups: Groups
    timeout: float | None
    started: float  #: time.monotonic() before the fork: a short test may be over before this process goes on
    wall_seconds: float = 0.0
    status: int | None = None  #: as waitpid gives it
    rusage: resource.struct_rusage | None = None
    messages: list[object] = field(default_factory=list)
    complete: bool = False
    error: str = ""  #: traceback of a payload that raised
    refused: SetupError | None = None  #: the sandbox could not be completed from inside
    timed_out: bool = False
    interrupt: KeyboardInterrupt | None = None  #: that came while it ran
    init_died: bool = False
    killed: bool = False  #: by us
    processes: tuple[str, ...] = ()
    terminal: Terminal | None = None  #: of somebody who debugs the test
    _frames: wire.Reader = field(default_factory=wire.Reader)
    _rings: wire.Reader = field(default_factory=wire.Reader)

    def wait(self) -> None:
        """Until the child has ended, by itself or at its deadline; then all that it sent has been taken.

        :raises KeyboardInterrupt: the second one, or it came while the child was reaped.
        """
        try:
            if self.interrupt is None:
                try:
                    self._watch()
                except KeyboardInterrupt as interrupt:
                    self.interrupt = interrupt
            if self.interrupt is not None:
                self._pass_on(self.interrupt)
        finally:
            if self.terminal is not None:
                self.terminal.give_back()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        deadline = None if self.timeout is None else self.started + self.timeout
        while self.status is None:
            if self.terminal is not None:
                deadline = None
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poll.poll(None if left is None else min(left * 1000 + 1, _POLL_MOST))
            if not ready and deadline is not None and time.monotonic() >= deadline:
                self._time_out()
            for fd, _ in ready:
                if fd == self.pidfd:
                    self._reap()
                elif not self._take(fd):
                    poll.unregister(fd)  # the test closed our descriptor; its end is still to come
                elif fd == self.bell:
                    poll.register(self.channel, select.POLLIN)  # who has rung once may go on
        self._drain()

    def _pass_on(self, interrupt: KeyboardInterrupt) -> None:
        """Interrupt the test, as a terminal does in a plain run: it tells where it was, and tears down."""
        if self.status is None:
            with contextlib.suppress(PermissionError):  # it is another user by now
                try:
                    os.killpg(self.pid, signal.SIGINT)  # it leads a group of its own
                except ProcessLookupError:  # not yet, or it has ended
                    os.kill(self.pid, signal.SIGINT)
            self.timeout = time.monotonic() - self.started + _INTERRUPT_SECONDS
        try:
            self._watch()
        except ChildProcessError:  # reaped already, and the interrupt came before the note of its result
            raise interrupt from None

    def kill(self) -> None:
        """End the child and everything in its sandbox, and wait for the child. Harmless if it has ended."""
        if self.status is None:
            self._kill_all()
            # Reaped already if an interrupt came between the wait and the note of its result.
            with contextlib.suppress(ChildProcessError):
                self._reap()

    def read_stacks(self) -> str:
        """What faulthandler wrote."""
        return os.pread(self.stacks, _STACKS_BYTES, 0).decode("utf-8", "replace")

    def _take(self, fd: int) -> bool:
        """Whether there was anything. :raises BlockingIOError: there is nothing yet."""
        try:
            piece = os.read(fd, _PIECE)
        except ConnectionResetError:  # of the bell: the child has ended without reading an answer (unix(7))
            piece = b""
        try:
            for frame in (self._frames if fd == self.channel else self._rings).feed(piece):
                self._hear(frame)
        except ValueError:
            # No JSON: the test wrote to our descriptor, or its memory is damaged. It ends without a result.
            self.complete = False
        return bool(piece)

    def _hear(self, frame: object) -> None:
        match frame:
            case [Frame.MESSAGE, message]:
                self.messages.append(message)
            case [Frame.END, _]:
                self.complete = True
            case [Frame.ERROR, str(text)]:
                self.error = text
            case [Frame.ATTENDED, _] if self.terminal is None:
                with contextlib.suppress(OSError, ValueError):  # nobody is there
                    self.terminal = Terminal(self.pidfd)
            case [Frame.USAGE, _]:
                self._answer()
            case [Frame.REFUSED, [str(step), str(target), int(code), str(remedy)]]:
                self.refused = SetupError(step, target, code, remedy)
            case _:  # not of our making: the test wrote to our descriptor
                pass

    def _answer(self) -> None:
        """Tell the child what it has used so far."""
        figures = self.groups.read(self.name)
        names = ("cpu_seconds", "memory_peak_bytes", "pids_peak", "read_bytes", "write_bytes")
        usage = {name: getattr(figures, name) for name in names}
        with contextlib.suppress(OSError):  # it has gone, or asks and asks without reading
            wire.send(self.bell, usage | {"wall_seconds": time.monotonic() - self.started})

    def _drain(self) -> None:
        """The child's data is all in the pipe by now. Not until EOF: what it left running may hold the other end."""
        os.set_blocking(self.channel, False)
        with contextlib.suppress(BlockingIOError):
            while self._take(self.channel):
                pass

    def _reap(self) -> None:
        self.wall_seconds = time.monotonic() - self.started
        # An end of PID 1 that we did not cause takes all down with it; asked before the child is reaped, as after
        # that the sandbox is taken down.
        self.init_died = self.contained and not self.killed and _readable(self.init[1])
        if not self.contained:
            # Nobody else ends what it left running. Before it is reaped, as its number, also of its group, is its own.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._kill_all()
        _, self.status, self.rusage = os.wait4(self.pid, 0)

    def _time_out(self) -> None:
        self.timed_out = True
        if state(self.pid) not in ("T", "t", "Z"):  # a stopped process runs no handler
            self._dump_stacks()
        states = {pid: state(pid) for pid in self._pids()}  # first, as a frozen process is in state D
        frozen = self.groups.freeze(self.name)
        self.processes = tuple(self._describe(pid, states) for pid in sorted(self._pids()))
        self._kill_all()
        if frozen:
            self.groups.thaw(self.name)  # on v1 a frozen process cannot die
        self._reap()

    def _dump_stacks(self) -> None:
        with contextlib.suppress(OSError):
            native.send_unblocked(self.pid, DUMP_SIGNAL)
        patience, size = time.monotonic() + _STACKS_SECONDS, -1
        while time.monotonic() < patience and not _readable(self.pidfd):
            now = os.fstat(self.stacks).st_size
            if now and now == size:
                return  # complete: it has not grown for a while
            size = now
            time.sleep(0.02)

    def _pids(self) -> Iterable[int]:
        known = self.groups.processes(self.name)
        return known or (members(self.init[0]) if self.contained else [self.pid])

    def _describe(self, pid: int, states: dict[int, str]) -> str:
        """``PID STATE COMMAND`` with the pid as the test knows it."""
        status = dict(line.split(":\t", 1) for line in _field(pid, "status").splitlines() if ":\t" in line)
        inside = status.get("NSpid", str(pid)).split()[-1]
        state = states.get(pid) or status.get("State", "?")[:1]
        command = _field(pid, "cmdline").replace("\0", " ").strip() or status.get("Name", "")
        return f"{inside} {state} {'(the test itself)' if pid == self.pid else command[:200]}"

    def _kill_all(self) -> None:
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            if self.contained:  # with PID 1 the kernel kills all of its pid namespace (pid_namespaces(7))
                signal.pidfd_send_signal(self.init[1], signal.SIGKILL)
                return
            os.killpg(self.pid, signal.SIGKILL)
        for pid in self.groups.processes(self.name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _readable(fd: int) -> bool:
    poller = select.poll()  # select() takes no descriptor beyond 1023, which a process with many files has
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def _field(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES):
            return ""
        raise


def state(pid: int) -> str:
    """One letter of proc_pid_stat(5); "" if it has gone."""
    return _field(pid, "stat").rpartition(")")[2].strip()[:1]


def members(pid: int) -> list[int]:
    """Processes of the pid namespace whose PID 1 is ``pid``, without it, from /proc: where no cgroup lists them."""
    try:
        wanted = os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != pid and os.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                found.append(int(name))
    return found
