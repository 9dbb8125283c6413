"""Stands between the user and a program in a sandbox until it ends: input, output, signals, window size.

At a terminal the program gets one of the sandbox's own (:class:`TerminalAttendance`): ours cannot be the controlling
terminal of another session (ioctl_tty(2), TIOCSCTTY), and without one there is no job control in a shell, and no
Ctrl-C for what it starts. Else it has our input and output, and signals are handed on (:class:`PipeAttendance`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from select import POLLIN, POLLOUT
from typing import TYPE_CHECKING, Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.session.held import Held
from pytest_isolate.session.launched import Program

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE = 1 << 16
_LAST = 1 << 20  # bytes still shown when the program has ended: another one may write for ever
_WINDOW = b"\0" * 8  # struct winsize

_Handler = Callable[[int, Any], object]


class PipeAttendance:
    """For a program with our own standard streams. A context manager, to be entered before the program is started."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._program: Program | None = None
        self._early: list[int] = []  # signals that came before it was known
        ends = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
        self._handlers = _handlers({**dict.fromkeys(ends, self._hand_on), signal.SIGTSTP: self._stop})

    def __enter__(self) -> Self:
        self._handlers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.__exit__(None, None, None)

    def attend(self, program: Program) -> int:
        """Wait for the program's end; its exit status, as shells have it."""
        self._program = program
        for number in self._early:
            program.send_signal(number)
        return _status(program)

    def _hand_on(self, number: int, _frame: Any) -> None:
        if self._program is None:
            self._early.append(number)
        else:
            self._program.send_signal(number)

    def _stop(self, *_: object) -> None:
        with _stopped(self._held):
            _stop_this_process()


class TerminalAttendance:
    """For a program with a terminal in the sandbox, whose other end is ``master``. A context manager."""

    def __init__(self, held: Held, master: Fd, slave: Fd, *, stops: bool) -> None:
        """:param stops: Ctrl-Z stops program and this process, where nobody inside has a use for it.

        The kernel does not let the first process of a session be stopped by it, as nobody there could continue it
        (setpgid(2), "orphaned process groups"); a shell wants that, other programs do not.
        """
        self._held, self._master, self._slave, self._stops = held, master, slave, stops
        self._before = termios.tcgetattr(0)
        self._unsent = b""
        self._handlers = _handlers(
            {
                signal.SIGWINCH: self._resize,
                signal.SIGTSTP: self._stop,
                signal.SIGCONT: self._take_terminal,
                signal.SIGTERM: _end,
                signal.SIGHUP: _end,
            }
        )

    def __enter__(self) -> Self:
        """Let the new terminal be as ours, and ours hand on each key."""
        termios.tcsetattr(self._slave, termios.TCSANOW, self._before)
        calls.set_blocking(self._master, False)
        self._handlers.__enter__()
        self._take_terminal()
        return self

    def __exit__(self, *error: object) -> None:
        self._give_terminal_back()
        self._handlers.__exit__(None, None, None)

    def attend(self, program: Program) -> int:
        """Carry what is typed and shown until the program has ended; its exit status, as shells have it."""
        ended = os.pidfd_open(program.pid)
        try:
            while True:
                poll = calls.poll()
                poll.register(0, POLLIN)
                poll.register(self._master, POLLIN | POLLOUT if self._unsent else POLLIN)
                poll.register(ended, POLLIN)
                ready = dict(poll.poll())
                if self._master in ready:
                    self._send()
                    self._show(_PIECE)
                if ended in ready:
                    self._show(_LAST)
                    return _status(program)
                if 0 in ready:
                    self._type()
        finally:
            calls.close(ended)

    def _show(self, most: int) -> None:
        with suppress(BlockingIOError):
            while most > 0 and (piece := calls.read(self._master, _PIECE)):
                _write_all(1, piece)
                most -= len(piece)

    def _type(self) -> None:
        piece = calls.read(0, _PIECE)
        if not piece:  # the terminal has gone
            _end(signal.SIGHUP, None)
        while (key := self._stopping_key()) is not None and key in piece:
            before, _, piece = piece.partition(key)
            self._unsent += before
            self._send()
            calls.kill(calls.getpid(), signal.SIGTSTP)
        self._unsent += piece
        self._send()

    def _stopping_key(self) -> bytes | None:
        """The key that would stop the first process of the session, if that has the terminal and leaves keys to it."""
        if not self._stops:
            return None
        attributes = termios.tcgetattr(self._slave)
        key: bytes = attributes[6][termios.VSUSP]
        if not attributes[3] & termios.ISIG or key == b"\0":
            return None
        group = os.tcgetpgrp(self._master)
        with suppress(ProcessLookupError):
            return key if os.getsid(group) == group else None
        return None

    def _send(self) -> None:
        """Without waiting: the program may not read before we have shown what it writes."""
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[calls.write(self._master, self._unsent) :]

    def _resize(self, *_: object) -> None:
        with suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, _WINDOW))

    def _take_terminal(self, *_: object) -> None:
        self._resize()
        tty.setraw(0, termios.TCSADRAIN)

    def _give_terminal_back(self) -> None:
        with suppress(termios.error):  # it has gone
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _stop(self, *_: object) -> None:
        """Stop all in the sandbox, and this process; goes on when the user's shell continues it."""
        self._give_terminal_back()
        with _stopped(self._held):
            _stop_this_process()
        self._take_terminal()


@contextmanager
def _handlers(handlers: Mapping[int, _Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stopped(held: Held) -> Iterator[None]:
    _signal_all(held, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(held, signal.SIGCONT)


def _signal_all(held: Held, number: int) -> None:
    for pid in held.processes():
        with suppress(ProcessLookupError, PermissionError):
            calls.kill(pid, number)


def _stop_this_process() -> None:
    own = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    calls.killpg(0, signal.SIGTSTP)  # with what else the shell has in the pipeline
    signal.signal(signal.SIGTSTP, own)


def _status(program: Program) -> int:
    status = program.wait()
    return 128 - status if status < 0 else status


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)


def _write_all(fd: int, piece: bytes) -> None:
    while piece:
        piece = piece[calls.write(fd, piece) :]
