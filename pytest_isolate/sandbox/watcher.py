"""Watching runs from outside: takes their messages, keeps their deadlines, and ends them."""

from __future__ import annotations

import contextlib
import resource
import select
import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_isolate.cgroups.interface import Figures
from pytest_isolate.linux import waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import wire
from pytest_isolate.sandbox.channel import Frame
from pytest_isolate.sandbox.debugger_terminal import Terminal
from pytest_isolate.sandbox.outcome import Leak
from pytest_isolate.sandbox.processes import Processes
from pytest_isolate.sandbox.stalled import StallPatience
from pytest_isolate.spec.errors import SetupError

_PIECE = 1 << 16  # what a pipe holds (pipe(7))
_INTERRUPT_SECONDS = 1.5  # for the test to tear down, which most do in milliseconds; the whole run is to end within two
_POLL_MOST = 1e9  # milliseconds, not quite the largest number that poll(2) takes; then it is called again
_STACKS_BYTES = 1 << 20  # of a dump that is kept


class Ended(NamedTuple):
    """What a run came to."""

    wall_seconds: float
    status: int  #: as waitpid gives it
    rusage: resource.struct_rusage
    messages: tuple[object, ...]
    complete: bool  #: the payload returned, and all that it sent is here
    error: str  #: traceback of a payload that raised
    refused: SetupError | None  #: the sandbox could not be completed from inside
    timed_out: bool
    stalled: float | None  #: seconds after which it was ended, as nothing in it could go on
    interrupt: KeyboardInterrupt | None  #: that came while it ran
    init_died: bool  #: PID 1 of the sandbox, and not by us
    processes: tuple[str, ...]  #: what was alive when we ended it
    stacks: str  #: what faulthandler wrote
    left: tuple[Leak, ...]  #: what the child saw of what it left behind, if it looked


@dataclass(kw_only=True, eq=False, repr=False)
class Watcher:
    """Watches one child at work: alone by :meth:`wait`, beside others by :func:`wait_for_one` and :meth:`step`."""

    processes: Processes  #: it and all others in its sandbox
    reader: Fd  #: read end
    control: Fd  #: socket, non-blocking: what the child cannot wait with
    stacks: Fd
    figures: Callable[[], Figures]  #: of its cgroup, so far
    timeout: float | None
    stall_timeout: float  #: seconds that a test may wait for locks which nobody can release; 0: for ever
    started: float  #: calls.monotonic() before the fork: a short test may be over before this process goes on
    ended: float | None = None  #: the same, when the child was seen to have ended, if this process went on later
    has_terminal: bool = True  #: a debugger in it may have pytest's terminal; else it is ended, and ``wants_terminal``
    wants_terminal: bool = field(default=False, init=False)
    _wall_seconds: float = field(default=0.0, init=False)
    _status: int | None = field(default=None, init=False)  #: as waitpid gives it
    _rusage: resource.struct_rusage | None = field(default=None, init=False)
    _messages: list[object] = field(default_factory=list, init=False)
    _complete: bool = field(default=False, init=False)
    _error: str = field(default="", init=False)  #: traceback of a payload that raised
    _refused: SetupError | None = field(default=None, init=False)  #: the sandbox could not be completed from inside
    _timed_out: bool = field(default=False, init=False)
    _stalled: bool = field(default=False, init=False)  #: ended as nothing in it could go on
    interrupt: KeyboardInterrupt | None = None  #: that came while it was forked, or runs
    _alive: tuple[str, ...] = field(default=(), init=False)  #: when it was ended
    _left: list[Leak] = field(default_factory=list, init=False)  #: behind, as the child saw it
    _terminal: Terminal | None = field(default=None, init=False)  #: of somebody who debugs the test
    _polled: list[Fd] = field(default_factory=list, init=False)
    _deadline: float | None = field(default=None, init=False)  #: by calls.monotonic()
    _patience: StallPatience = field(init=False)
    _frames: wire.Reader = field(default_factory=wire.Reader, init=False)
    _told: wire.Reader = field(default_factory=wire.Reader, init=False)

    def wait(self) -> Ended:
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
            if self._terminal is not None:
                self._terminal.give_back()
        return self._ended()

    def begin(self) -> None:
        """Before the first :meth:`step`."""
        self._polled = [self.control, self.processes.pidfd]
        self._deadline = None if self.timeout is None else self.started + self.timeout
        self._patience = StallPatience(self.stall_timeout, self.started)

    def goes_on(self) -> bool:
        """Whether the child has not ended."""
        return self._status is None

    def finish(self) -> Ended:
        """Take all that it sent, once it has ended; what it came to."""
        self._drain()
        return self._ended()

    def _ended(self) -> Ended:
        assert self._status is not None
        assert self._rusage is not None
        return Ended(
            wall_seconds=self._wall_seconds,
            status=self._status,
            rusage=self._rusage,
            messages=tuple(self._messages),
            complete=self._complete and self._status == 0,
            error=self._error,
            refused=self._refused,
            timed_out=self._timed_out,
            stalled=self.stall_timeout if self._stalled else None,
            interrupt=self.interrupt,
            init_died=self.processes.init_died,
            processes=self._alive,
            stacks=self._read_stacks(),
            left=tuple(self._left),
        )

    def _watch(self) -> None:
        self.begin()
        if self.ended is not None:  # then nothing is to be waited for
            with contextlib.suppress(BlockingIOError):  # what it left running may hold the other end
                self._take(self.control)
            self._reap()
        while self._status is None:
            wait_for_one([self])
        self._drain()

    def step(self, ready: Collection[Fd]) -> None:
        """Take what has come. :param ready: those of :attr:`polled` that can be read; none if it is time to look."""
        if self._terminal is not None:
            self._deadline, self._patience = None, StallPatience(0, self.started)
        if not ready:
            self._look()
        for fd in ready:
            if fd == self.processes.pidfd:
                self._reap()
            elif not self._take(fd):
                self._polled.remove(fd)  # the test closed our descriptor; its end is still to come
            elif fd == self.control and self.reader not in self._polled:
                self._polled.append(self.reader)  # what has told something may go on
        if self.wants_terminal and self._status is None:
            self._end()

    def _look(self) -> None:
        """End the run if its time is up."""
        if self._deadline is not None and calls.monotonic() >= self._deadline:
            self._timed_out = True
            self._end()
        elif self._patience.is_over(calls.monotonic(), self.processes.pids):
            self._stalled = True
            self._end()

    @property
    def polled(self) -> Sequence[Fd]:
        """Descriptors that are to be waited for."""
        return self._polled

    def next_look(self) -> float | None:
        """When to look again though nothing has come, by ``calls.monotonic()``; None: never."""
        if self._terminal is not None:
            return None
        times = (self._deadline, self._patience.next_look)
        return min((time for time in times if time is not None), default=None)

    def _pass_on(self, interrupt: KeyboardInterrupt) -> None:
        """Interrupt the test, as a terminal does in a plain run: it tells where it was, and tears down."""
        if self._status is None:
            with contextlib.suppress(PermissionError):  # it is another user by now
                try:
                    calls.killpg(self.processes.pid, signal.SIGINT)  # it leads a group of its own
                except ProcessLookupError:  # not yet, or it has ended
                    calls.kill(self.processes.pid, signal.SIGINT)
            self.timeout = calls.monotonic() - self.started + _INTERRUPT_SECONDS
        try:
            self._watch()
        except ChildProcessError:  # reaped already, and the interrupt came before the note of its result
            raise interrupt from None

    def kill(self) -> None:
        """End the child and everything in its sandbox, and wait for the child. Harmless if it has ended."""
        if self._status is None:
            self.processes.kill()

    def _read_stacks(self) -> str:
        """What faulthandler wrote."""
        return calls.pread(self.stacks, _STACKS_BYTES, 0).decode("utf-8", "replace")

    def _take(self, fd: int) -> bool:
        """Whether there was anything. :raises BlockingIOError: there is nothing yet."""
        try:
            piece = calls.read(fd, _PIECE)
        except ConnectionResetError:  # of the control socket: the child has ended without reading an answer (unix(7))
            piece = b""
        try:
            for frame in (self._frames if fd == self.reader else self._told).feed(piece):
                self._hear(frame)
        except ValueError:
            # No JSON: the test wrote to our descriptor, or its memory is damaged. It ends without a result.
            self._complete = False
        return bool(piece)

    def _hear(self, frame: object) -> None:
        match frame:
            case [Frame.MESSAGE, message]:
                self._messages.append(message)
            case [Frame.END, _]:
                self._complete = True
            case [Frame.ERROR, str(text)]:
                self._error = text
            case [Frame.LEFT, [str(kind), str(name), str(detail)]]:
                self._left.append(Leak(kind, name, detail))
            case [Frame.ATTENDED, _] if not self.has_terminal:
                self.wants_terminal = True
            case [Frame.ATTENDED, _] if self._terminal is None:
                with contextlib.suppress(OSError, ValueError):  # nobody is there
                    self._terminal = Terminal(self.processes.pidfd)
            case [Frame.USAGE, _]:
                self._answer(self._usage())
            case [Frame.STATUS, int(pid)]:
                self._answer({"status": waiting.exit_status(pid)})
            case [Frame.REFUSED, [str(step), str(target), int(code), str(remedy)]]:
                self._refused = SetupError(step, target, code, remedy)
            case _:  # not of our making: the test wrote to our descriptor
                pass

    def _usage(self) -> dict[str, object]:
        """What the child has used so far."""
        figures = self.figures()
        names = ("cpu_seconds", "memory_peak_bytes", "pids_peak", "read_bytes", "write_bytes")
        usage = {name: getattr(figures, name) for name in names}
        return usage | {"wall_seconds": calls.monotonic() - self.started}

    def _answer(self, answer: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # it has gone, or asks and asks without reading
            wire.send(self.control, answer)

    def _drain(self) -> None:
        """The child's data is all in the pipe by now. Not until EOF: what it left running may hold the other end."""
        calls.set_blocking(self.reader, False)
        with contextlib.suppress(BlockingIOError):
            while self._take(self.reader):
                pass

    def _reap(self) -> None:
        self._wall_seconds = (self.ended or calls.monotonic()) - self.started
        self._status, self._rusage = self.processes.reap()

    def _end(self) -> None:
        """With its stacks and what is alive written down."""
        self.processes.dump_stacks(self.stacks)
        self._alive = self.processes.end()
        self._reap()


def wait_for_one(watchers: Sequence[Watcher], seconds: float | None = None) -> None:
    """Wait until one of these runs has something to tell, or its time is up; each of them takes what has come.

    :param seconds: not longer than that.
    """
    poll = calls.poll()
    for watcher in watchers:
        for fd in watcher.polled:
            poll.register(fd, select.POLLIN)
    looks = [look - calls.monotonic() for watcher in watchers if (look := watcher.next_look()) is not None]
    left = min((max(0.0, each) for each in (*looks, seconds) if each is not None), default=None)
    ready = {fd for fd, _ in poll.poll(None if left is None else min(left * 1000 + 1, _POLL_MOST))}
    for watcher in watchers:
        own = [fd for fd in watcher.polled if fd in ready]
        if own or not ready or _is_due(watcher):
            watcher.step(own)


def _is_due(watcher: Watcher) -> bool:
    look = watcher.next_look()
    return look is not None and calls.monotonic() >= look
