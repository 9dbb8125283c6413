"""The first and last things that the forked child does: runs the payload inside the sandbox and never returns."""

from __future__ import annotations

import errno
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from posix import _exit, read  # not os's, which tests replace, and coverage.py (patch = _exit)
from typing import NoReturn

from pytest_isolate import wire
from pytest_isolate.errors import SetupError
from pytest_isolate.native import Fd
from pytest_isolate.outcome import Usage
from pytest_isolate.spec import Spec

#: Asks the child for the stacks of all its threads. A real-time signal that nobody is known to use.
DUMP_SIGNAL = signal.SIGRTMAX - 3


class Frame(IntEnum):
    """First element of every frame that the child sends; the second is the content."""

    MESSAGE = 0  #: what the payload sent
    END = 1  #: the payload returned; content: None
    ERROR = 2  #: the payload raised; content: the traceback's text
    REFUSED = 3  #: the sandbox could not be completed; content: step, target, errno and remedy of a SetupError
    # By the bell, as they cannot wait until the child has ended:
    ATTENDED = 4  #: somebody debugs it from now on; content: None
    USAGE = 5  #: it asks what it has used so far, and reads the answer from the bell; content: None
    FULL = 6  #: the channel takes no more; content: None


class Line:
    """What the payload has of the world outside."""

    def __init__(self, channel: Fd, bell: Fd, spec: Spec, degraded: tuple[tuple[str, str], ...]) -> None:
        """``channel``: where frames go, to be read when the run is over. ``bell``: a socket that is heard at once."""
        self.channel = channel
        self._bell = bell
        self.spec = spec
        self.degraded = dict(degraded)  #: keys not in force, each with the reason

    def __call__(self, message: object) -> None:
        """Pass plain data (JSON) to ``Outcome.messages``."""
        self.send(Frame.MESSAGE, message)

    def send(self, frame: Frame, content: object) -> None:
        """Write one frame to the channel."""
        wire.send(self.channel, [frame, content], self._ring)

    def _ring(self) -> None:
        wire.send(self._bell, [Frame.FULL, None])

    def usage(self) -> Usage:
        """What the run has used so far."""
        wire.send(self._bell, [Frame.USAGE, None])
        frames = wire.Reader()
        while piece := read(self._bell, 4096):
            for figures in frames.feed(piece):
                return Usage(**figures)  # type: ignore[arg-type] # as Run.answer made them
        raise OSError(errno.EPIPE, "pytest has gone")

    def attended(self) -> None:
        """A debugger asks somebody at pytest's terminal: from now on Ctrl-C is for it, and there is no time-out."""
        wire.send(self._bell, [Frame.ATTENDED, None])


def run(line: Line, body: Callable[[Line], None], stacks: Fd, complete: Callable[[], None] | None) -> NoReturn:
    """Run ``body(line)`` and end this process.

    :param complete: what is left to do to the sandbox from inside; may raise SetupError.
    :param stacks: file for faulthandler's dumps, of a crash or on :data:`DUMP_SIGNAL`.
    """
    status = 1
    try:
        # Exempts every object of the parent from garbage collection, which would write to, and so copy (and charge to
        # this test's memory) every page of the parent's heap. It splices lists: some pages, whatever the heap's size.
        gc.freeze()
        faulthandler.enable(stacks)
        faulthandler.register(DUMP_SIGNAL, stacks, all_threads=True, chain=False)
        if line.spec.env:
            _set_environment(line.spec)
        if complete is not None:
            complete()
        body(line)
        _flush()
        line.send(Frame.END, None)
        status = 0
    except SetupError as error:
        line.send(Frame.REFUSED, [error.step, error.target, error.errno, error.remedy])
    except BaseException:  # noqa: BLE001 - whatever it is, it must be told outside, and must not unwind into pytest's frames
        _flush()
        with suppress(OSError):
            line.send(Frame.ERROR, traceback.format_exc())
    finally:
        _exit(status)  # no atexit, no finalizers: they belong to the parent


def _set_environment(spec: Spec) -> None:
    for name, value in spec.env:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _flush() -> None:
    """What Python still buffers would be lost by ``_exit``; the parent flushed its part before the fork."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, replaced or broken by the test: its own affair
            stream.flush()
