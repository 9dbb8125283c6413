"""Our end of a control socket to a process beside pytest's: whole messages, with descriptors (unix(7), SOCK_SEQPACKET).

The C class of sockets, as fixtures replace Python's: ``socket.socket`` refuses to be made in many test suites.
"""

from __future__ import annotations

import _socket
import errno
import struct
from collections.abc import Sequence

from pytest_isolate.linux import waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd

_INT = struct.Struct("i")


class Control:
    """One end. Closed when it is freed, or by :meth:`close`."""

    def __init__(self) -> None:
        """Make a pair. :raises OSError: there are no descriptors left."""
        self._socket, self.theirs = calls.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        """The descriptor; -1 once it has been closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close both ends, as far as they are open in this process."""
        self._socket.close()
        self.theirs.close()

    def send(self, message: bytes, descriptors: Sequence[int] = (), *, seconds: float) -> None:
        """Send one message.

        :raises TimeoutError: the other end has read none all that time, and there is no room for more.
        :raises OSError: it is closed, or there is no memory.
        """
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
        until = calls.monotonic() + seconds
        while True:
            try:
                self._socket.sendmsg([message], rights if descriptors else [], _socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not waiting.writable(self.fileno(), seconds=until - calls.monotonic()):
                    raise _too_late() from None
            else:
                return

    def receive(self, size: int, most: int = 0, *, seconds: float) -> tuple[bytes, list[Fd], bool]:
        """Wait for one message, of ``size`` bytes at most.

        :param most: how many descriptors can come with it; close-on-exec, the receiver's to close.
        :param seconds: how long to wait.
        :return: the message, b"" if the other end is closed; its descriptors; whether these are all: the kernel drops
            those that there is no room for.
        :raises TimeoutError: none came in time. :raises OSError: another reason.
        """
        if not waiting.readable(self.fileno(), seconds=seconds):
            raise _too_late()
        room = _socket.CMSG_SPACE(most * _INT.size)
        message, rights, flags, _ = self._socket.recvmsg(size, room, _socket.MSG_CMSG_CLOEXEC)
        descriptors = [
            Fd(fd)
            for level, kind, data in rights
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for (fd,) in _INT.iter_unpack(data[: len(data) - len(data) % _INT.size])
        ]
        return message, descriptors, not flags & _socket.MSG_CTRUNC


def _too_late() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, calls.strerror(errno.ETIMEDOUT))
