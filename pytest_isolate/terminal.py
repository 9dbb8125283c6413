"""pytest's terminal while somebody debugs a test in its sandbox.

The test reads from the terminal through the descriptors that it has from pytest. But it is in a session of its own, for
which this is no controlling terminal (setsid(2)): Ctrl-C and Ctrl-Z make signals for pytest's process group only, and
job control does not keep the test from reading (termios(3)). Here pytest passes on what is meant for the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from typing import Any

from pytest_isolate.native import Fd


class Terminal:
    """From the first prompt of a debugger to the test's end: Ctrl-C and Ctrl-Z reach the test."""

    def __init__(self, pidfd: Fd) -> None:
        """Take over.

        :param pidfd: the test's process.
        :raises OSError: this process has no terminal, so nobody can be there. :raises ValueError: it is not in its main
            thread.
        """
        self._pidfd = pidfd
        self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            self._attributes = termios.tcgetattr(self._fd)
            self._before = {signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt)}
        except BaseException:
            os.close(self._fd)
            raise
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)

    def give_back(self) -> None:
        """Undo it, also what a debugger that was killed has left: a terminal that does not echo."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._attributes)
        os.close(self._fd)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _interrupt(self, _number: int, _frame: Any) -> None:
        self._send(signal.SIGINT)

    def _stop(self, _number: int, _frame: Any) -> None:
        """Stop both, so that the shell alone reads; goes on when the shell continues this process."""
        self._send(signal.SIGSTOP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._send(signal.SIGCONT)
