"""The processes beside this one: builder, broker and forwarder. Each has a control socket, and learns of our end.

None of them is a child of this process: suites end all their children, and wait for any. So each is started by another
program (``_native/start.c``), and known by a pidfd.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from fcntl import F_DUPFD_CLOEXEC
from pathlib import Path
from signal import SIGCHLD, SIGKILL

from pytest_isolate.linux import native, waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.control import Control
from pytest_isolate.linux.native import Fd
from pytest_isolate.spec.errors import SetupError

#: Seconds for an answer, or until a message is taken. It is a matter of milliseconds, but for pasta, which may wait for
#: an interface, and on a machine that swaps.
ANSWER_SECONDS = 60.0
#: Seconds until a process has ended that was told to: the builder removes cgroups and files first, for five at most.
END_SECONDS = 15.0
#: Seconds until a process has gone that was killed; one in an uninterruptible call of the kernel's stays.
KILLED_SECONDS = 5.0
#: A program of this package imports what this process can, from the same places, but runs no start-up file of the
#: environment. The standard library comes first: a project may have modules of the same names.
START = "import json, sys; sys.path += json.loads(sys.argv[2]); from {module} import main; main(sys.argv[1])"
_PACKAGE = Path(__file__).resolve().parents[2]
_CONTROL = 3  #: where the program expects the first of what it is given
_KEEPER, _FIFTH = 4, 5
_REPORT = 6  #: where start.c expects its own
_BEYOND = 7  #: the first number that they expect nothing at
_STARTED = struct.Struct("=ii")  #: ``struct report`` of start.c: errno, pid
_NONE = Fd(-1)


class HelperProcess:
    """A program that serves this process, and answers on a control socket.

    It is of use only while this side is in step with it. Where an answer may still come when another is expected, or
    the program has gone, the socket is closed: :meth:`alive` says no from then on, and the program ends.
    """

    def __init__(
        self, name: str, program: str, arguments: list[str], environment: Mapping[str, str], *, fifth: Fd | None = None
    ) -> None:
        """Start it.

        :param name: what it is called in an error.
        :param fifth: a descriptor that it finds as 5, beside the control socket, 3, and a pidfd of this process, 4.
        :raises SetupError: if it can't be started.
        """
        self.name = name
        self.pid, self._pidfd, self.control = _start(name, program, arguments, environment, fifth)

    @classmethod
    def of_module(cls, name: str, module: str, argument: str = "") -> HelperProcess:
        """Start ``main(argument)`` of a module of this package in an interpreter of its own.

        It is isolated, and has no site module, as somebody waits for it. ``for=PID`` names this process to who reads
        the list of processes.
        """
        path = json.dumps([str(_PACKAGE), *sys.path])
        start = START.format(module=module)
        arguments = [sys.executable, "-I", "-S", "-c", start, argument, path, f"for={calls.getpid()}"]
        return cls(name, sys.executable, arguments, os.environ)

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that must not reach a test."""
        return tuple(Fd(fd) for fd in (self.control.fileno(), self._pidfd) if fd >= 0)

    def alive(self) -> bool:
        """Whether the process is still there, and this side in step with it."""
        return self.control.fileno() >= 0 and not waiting.readable(self._pidfd, seconds=0)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send one datagram.

        :raises SetupError: the process has gone, or takes no message.
        """
        try:
            self.control.send(message, fds, seconds=ANSWER_SECONDS)
        except TimeoutError:
            raise self._silent("to take a message") from None
        except OSError as error:
            raise self.gone(error) from error

    def receive(self, size: int, most_fds: int = 0, *, awaited: str) -> tuple[bytes, list[Fd], bool]:
        """A datagram, its descriptors, and whether these are all: the kernel drops those that there is no room for.

        :param awaited: what is waited for, in an error: "for a sandbox".
        :raises SetupError: the process has gone, or does not answer.
        """
        try:
            # The pidfd, as somebody who traces the process may hold the socket's other end.
            waiting.readable(self.control.fileno(), self._pidfd, seconds=ANSWER_SECONDS)
            message, descriptors, whole = self.control.receive(size, most_fds, seconds=0)
        except TimeoutError:
            raise (self._silent(awaited) if self.alive() else self.gone()) from None
        except OSError as error:
            raise self.gone(error) from error
        except BaseException:  # KeyboardInterrupt: the answer would be taken for that to the next question
            self.control.close()
            raise
        if not message:
            raise self.gone()
        return message, descriptors, whole

    def gone(self, error: OSError | None = None) -> SetupError:
        """What to raise as the process has gone, whatever shows it: its socket ends before it can be waited for."""
        self.control.close()
        code = (error and error.errno) or errno.EPIPE
        if code in (errno.ECONNRESET, errno.EBADF):  # the same: it had not read all (unix(7)), or this was known
            code = errno.EPIPE
        return SetupError(f"reach the {self.name}", f"pid {self.pid}", code, "It has died; was it killed?")

    def close(self) -> None:
        """End the process, and wait until it has done what it does at its end; kill it if that takes too long."""
        self.control.close()
        if self._pidfd >= 0:
            if not waiting.readable(self._pidfd, seconds=END_SECONDS):
                self._kill()
            with suppress(ChildProcessError):  # as it usually is, but for a pytest that orphans go to
                calls.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            calls.close(self._pidfd)
            self._pidfd = _NONE

    def abandon(self) -> None:
        """In a fork of this process: close what leads to the other, which goes on."""
        self.control.close()
        calls.close(self._pidfd)
        self._pidfd = _NONE

    def _silent(self, awaited: str) -> SetupError:
        self._kill()
        self.control.close()
        remedy = f"It was waited {ANSWER_SECONDS:g} s {awaited}, and it has been killed; the next test has a new one."
        return SetupError(f"get an answer from the {self.name}", f"pid {self.pid}", errno.ETIMEDOUT, remedy)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            calls.pidfd_send_signal(self._pidfd, SIGKILL)
        waiting.readable(self._pidfd, seconds=KILLED_SECONDS)


def _start(
    name: str, program: str, arguments: list[str], environment: Mapping[str, str], fifth: Fd | None
) -> tuple[int, Fd, Control]:
    """Run a program; its pid, a pidfd, and our end of its control socket, a SOCK_SEQPACKET one."""
    with ExitStack() as undo, ExitStack() as done:
        try:
            with ExitStack() as passed:
                control, told = Control(), Control()
                undo.callback(control.close)
                done.callback(told.close)
                passed.callback(control.theirs.close)
                passed.callback(told.theirs.close)
                keeper = native.pidfd_open(calls.getpid())
                passed.callback(calls.close, keeper)
                given = {_CONTROL: control.theirs.fileno(), _KEEPER: keeper, _REPORT: told.theirs.fileno()}
                if fifth is not None:
                    given[_FIFTH] = fifth
                starter = _spawn(["isolate-start", "start", program, *arguments], environment, given)
        except OSError as error:
            raise SetupError(f"start the {name}", str(native.STARTER), error.errno or 0) from error
        pid, pidfd = _read_reports(name, program, starter, told)
        undo.pop_all()
    return pid, pidfd, control


def _spawn(words: list[str], environment: Mapping[str, str], given: Mapping[int, int]) -> int:
    """The starter's pid. It has ``given``, by number, and nothing at the standard descriptors."""
    with ExitStack() as passed:
        actions: list[tuple[object, ...]] = []
        for number, fd in given.items():
            apart = calls.fcntl(fd, F_DUPFD_CLOEXEC, _BEYOND)
            passed.callback(calls.close, apart)
            actions.append((os.POSIX_SPAWN_DUP2, apart, number))
        actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(_CONTROL)]
        # What waits for children of its own, as the builder does, must not inherit that SIGCHLD is ignored.
        return calls.posix_spawn(str(native.STARTER), words, environment, file_actions=actions, setsigdef=[SIGCHLD])


def _read_reports(name: str, program: str, starter: int, told: Control) -> tuple[int, Fd]:
    """Wait for the starter's end; pid and pidfd of the program."""
    pid, pidfd, trouble = 0, _NONE, 0
    until = calls.monotonic() + ANSWER_SECONDS
    try:
        while not trouble:
            report, descriptors, _ = told.receive(_STARTED.size, 1, seconds=max(0, until - calls.monotonic()))
            if not report:  # nobody has the other end: the starter has ended, and the program replaced its child
                trouble = 0 if pid else errno.ECHILD
                break
            trouble, number = _STARTED.unpack(report)
            pid, pidfd = number or pid, next(iter(descriptors), pidfd)
    except OSError as error:
        trouble = error.errno or errno.EIO
    except BaseException:
        _close(pidfd)
        raise
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # a thread may wait for any child
            if trouble:
                calls.kill(starter, SIGKILL)
            calls.waitpid(starter, 0)  # no wait: it has closed its descriptors, as it ends, or was killed
    if trouble:
        _close(pidfd)
        raise SetupError(f"start the {name}", program, trouble)
    return pid, pidfd


def _close(fd: Fd) -> None:
    if fd >= 0:
        calls.close(fd)
