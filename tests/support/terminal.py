"""A shell at a terminal of its own, and a person who types."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

PROMPT = "ready> "  #: of the shell; what is typed before it comes may be for the program that is about to end
_PATIENCE = 120  # seconds
#: Makes standard input the controlling terminal, for which a process must be the first of a session.
_AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Person:
    """Somebody who sees and types."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self._terminal, self._process = terminal, process
        self._seen = b""
        self._read = 0  # up to where it has been waited for

    def waits_for(self, text: str) -> str:
        """What is shown up to and including ``text``."""
        deadline = time.monotonic() + _PATIENCE
        while text.encode() not in self._seen[self._read :]:
            ready = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]
            piece = b""
            if ready:
                try:
                    piece = os.read(self._terminal, 1 << 16)
                except OSError:  # EIO: all have closed it
                    piece = b""
            if not piece:
                pytest.fail(f"{text!r} was not shown, but this: {self._seen.decode(errors='replace')}")
            self._seen += piece
        begin, self._read = self._read, self._seen.index(text.encode(), self._read) + len(text.encode())
        return self._seen[begin : self._read].decode(errors="replace")

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def runs(self, command: str) -> str:
        """What a shell's ``command`` shows.

        What is typed is shown as well, twice if nobody has read it yet, and perhaps before the prompt.
        """
        self.types(f"{command}; echo the' 'end\n")
        shown = self.waits_for("the end")
        return (
            shown.rpartition("the' 'end")[2].replace("\r\n", "\n").replace(PROMPT, "").removesuffix("the end").strip()
        )

    def resizes(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def attributes(self) -> list[object]:
        """How the terminal treats what is typed and shown."""
        return termios.tcgetattr(self._terminal)

    def status(self) -> int:
        return self._process.wait(_PATIENCE)


@contextmanager
def shell_at_a_terminal(cwd: Path, env: Mapping[str, str]) -> Iterator[Person]:
    """An interactive /bin/sh with job control."""
    terminal, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_TERMINAL, "/bin/sh", "-i"],
        cwd=cwd, env={**env, "PS1": PROMPT, "ENV": "", "SHELL": "/bin/sh"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Person(terminal, process)
    finally:
        os.close(terminal)  # a hang-up
        try:
            process.wait(_PATIENCE)
        finally:
            process.send_signal(signal.SIGKILL)
