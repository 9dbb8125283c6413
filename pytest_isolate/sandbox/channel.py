"""What pytest and a child hear each other by: a pipe of reports, and a control socket for what cannot wait."""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock
from enum import IntEnum
from typing import Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import wire
from pytest_isolate.sandbox.outcome import Usage
from pytest_isolate.spec.spec import Spec


class Channel:
    """Both ends of both, until one side closes what is the other's."""

    __slots__ = ("childs_control", "control", "reader", "writer")

    def __init__(self) -> None:
        """Open them, close-on-exec."""
        reader, writer = calls.pipe2(os.O_CLOEXEC)
        calls.set_blocking(writer, False)  # the child tells when the pipe is full
        ours, theirs = calls.socketpair()
        ours.settimeout(0)
        self.reader, self.writer = Fd(reader), Fd(writer)  #: of reports
        self.control, self.childs_control = Fd(ours.detach()), Fd(theirs.detach())  #: sockets; ours does not block

    def close_childs_ends(self) -> None:
        """In this process, once the child has its copies."""
        calls.close(self.writer)
        calls.close(self.childs_control)

    def close(self) -> None:
        """Close all four, as there is no child."""
        self.close_childs_ends()
        calls.close(self.reader)
        calls.close(self.control)


class Frame(IntEnum):
    """First element of every frame that the child sends; the second is the content."""

    MESSAGE = 0  #: what the payload sent
    END = 1  #: the payload returned; content: None
    ERROR = 2  #: the payload raised; content: the traceback's text
    REFUSED = 3  #: the sandbox could not be completed; content: step, target, errno and remedy of a SetupError
    LEFT = 8  #: what the payload left behind inside; content: kind, name and detail of a Leak
    # By the control socket, as they cannot wait until the child has ended:
    ATTENDED = 4  #: somebody debugs it from now on; content: None
    USAGE = 5  #: it asks what it has used so far, and reads the answer from there; content: None
    FULL = 6  #: the pipe takes no more; content: None
    STATUS = 7  #: how a process of the session ended, and reads the answer from there; content: its pid


class Line:
    """What the payload has of the world outside."""

    def __init__(self, writer: Fd, control: Fd, spec: Spec, degraded: tuple[tuple[str, str], ...]) -> None:
        """``writer``: where frames go, to be read when the run is over. ``control``: a socket that is heard at once."""
        self.writer = writer
        self._control = control
        self.spec = spec
        self.degraded = dict(degraded)  #: keys not in force, each with the reason
        self._asking = allocate_lock()

    def __call__(self, message: object) -> None:
        """Pass plain data (JSON) to ``Outcome.messages``."""
        self.send(Frame.MESSAGE, message)

    def send(self, frame: Frame, content: object) -> None:
        """Write one frame to the pipe."""
        wire.send(self.writer, [frame, content], self._tell_full)

    def _tell_full(self) -> None:
        wire.send(self._control, [Frame.FULL, None])

    def usage(self) -> Usage:
        """What the run has used so far."""
        return Usage(**self._ask(Frame.USAGE, None))  # as Watcher made them

    def status(self, pid: int) -> int | None:
        """The exit code, or the negative signal, of a child of pytest's; None if it runs, or is nobody's any more.

        Not to be called in a process that the test has forked: both would read one answer.
        """
        answer = self._ask(Frame.STATUS, pid)["status"]
        return None if answer is None else int(answer)

    def _ask(self, frame: Frame, content: object) -> dict[str, Any]:
        with self._asking:  # each thread its own answer
            wire.send(self._control, [frame, content])
            frames = wire.Reader()
            while piece := calls.read(self._control, 4096):
                for answer in frames.feed(piece):
                    return answer  # type: ignore[return-value] # as Watcher made it
        raise OSError(errno.EPIPE, "pytest has gone")

    def attended(self) -> None:
        """A debugger asks somebody at pytest's terminal: from now on Ctrl-C is for it, and there is no time-out."""
        wire.send(self._control, [Frame.ATTENDED, None])
