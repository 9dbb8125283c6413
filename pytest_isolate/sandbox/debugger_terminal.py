"""pytest's terminal while somebody debugs a test in its sandbox.

The test reads from the terminal through the descriptors that it has from pytest. But it is in a session of its own, for
which this is no controlling terminal (setsid(2)): Ctrl-C and Ctrl-Z make signals for pytest's process group only, and
job control does not keep the test from reading (termios(3)). Here pytest passes on what is meant for the test.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import termios
from typing import Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.spec.keys import IN_SESSION


class Terminal:
    """From the first prompt of a debugger to the test's end: Ctrl-C and Ctrl-Z reach the test."""

    def __init__(self, pidfd: Fd) -> None:
        """Take over.

        :param pidfd: the test's process.
        :raises OSError: this process has no terminal, so nobody can be there. :raises ValueError: it is not in its main
            thread.
        """
        self._pidfd = pidfd
        self._fd = _open_terminal()
        try:
            self._attributes = termios.tcgetattr(self._fd)
            self._before = {signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt)}
        except BaseException:
            calls.close(self._fd)
            raise
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)

    def give_back(self) -> None:
        """Undo it, also what a debugger that was killed has left: a terminal that does not echo."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._attributes)
        calls.close(self._fd)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            calls.pidfd_send_signal(self._pidfd, number)

    def _interrupt(self, _number: int, _frame: Any) -> None:
        self._send(signal.SIGINT)

    def _stop(self, _number: int, _frame: Any) -> None:
        """Stop both, so that the shell alone reads; goes on when the shell continues this process."""
        self._send(signal.SIGSTOP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        calls.kill(calls.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._send(signal.SIGCONT)


def _open_terminal() -> Fd:
    """Open that of pytest; in a session sandbox it has none, but a descriptor of the one that its signals come from."""
    try:
        return Fd(calls.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        kept = os.environ.get(IN_SESSION, "")
        # A worker of xdist has the variable, and not the descriptor; and it may be left over, or written by hand.
        if not kept.isdecimal() or not os.isatty(int(kept)):
            raise
    return Fd(calls.fcntl(int(kept), fcntl.F_DUPFD_CLOEXEC, 0))
