"""The forwarder's inner half: waits for sockets, and copies bytes between the two ends of a connection.

With the standard library alone, as the forwarder is.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

_PIECE = 1 << 16
#: What accept(2) answers when we have too much open; it then waits until something has been closed.
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
Target = tuple[str, int]
Handler = Callable[[int], None]


def unwatch(_events: int) -> None:
    """For :meth:`Loop.watch` when nothing is watched for."""


_UNWATCHED: tuple[int, Handler] = (0, unwatch)


class Loop:
    """Waits for descriptors and calls who asked."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[int, Handler]] = {}
        self._waiting: list[Callable[[], None]] = []

    def when_freed(self, retry: Callable[[], None]) -> None:
        """Call ``retry`` once a connection has been closed."""
        self._waiting.append(retry)

    def freed(self) -> None:
        """A connection has been closed."""
        waiting, self._waiting = self._waiting, []
        for retry in waiting:
            retry()

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` on ``events``; with none of them, not even on a hang-up, which epoll always tells.

        A descriptor has one handler until it is watched for nothing.
        """
        before = self._handlers.get(fd, _UNWATCHED)[0]
        if events == before:
            return
        if not events:
            self._epoll.unregister(fd)
            del self._handlers[fd]
            return
        if before:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = events, handler

    def run(self) -> None:
        """For ever."""
        while True:
            ready = [(fd, self._handlers.get(fd), events) for fd, events in self._epoll.poll()]
            for fd, entry, events in ready:
                # Not if one before it in this round has changed it: a new socket may have the number by now.
                if entry is not None and self._handlers.get(fd) is entry:
                    entry[1](events)


class End:
    """One of the two sockets of a connection."""

    def __init__(self, sock: socket.socket, *, connected: bool) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.connected = connected
        self.eof = False  #: no more comes from it
        self.shut = False  #: it has been told that no more will come to it
        self.deaf = False  #: it takes no more: the connection to it broke
        self.pending = b""  #: what it has not yet taken of what came from the other end

    def send(self, piece: bytes) -> None:
        """Hand it ``piece``; what it does not take now is pending."""
        try:
            self.pending = piece[self.sock.send(piece) :]
        except (BlockingIOError, InterruptedError):
            self.pending = piece
        except OSError:
            self.pending, self.deaf = b"", True

    def receive(self) -> bytes:
        """What has come from it; nothing at its end, or for now."""
        try:
            piece = self.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            self.deaf, piece = True, b""
        self.eof = not piece
        return piece

    def shut_down(self) -> None:
        """Tell it that no more will come."""
        self.shut = True
        with suppress(OSError):  # it broke; reading it will tell
            self.sock.shutdown(socket.SHUT_WR)

    def unsent(self) -> bool:
        """Whether the kernel holds bytes that it has not acknowledged (tcp(7), SIOCOUTQ)."""
        return bool(struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])

    def close(self, *, reset: bool) -> None:
        """Close the connection to it, or break it (SO_LINGER of 0 seconds, socket(7))."""
        if reset:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Listeners(Protocol):
    """What a connection needs of the sandbox that it comes from."""

    loop: Loop
    alive: bool

    def forget(self, connection: Connection) -> None:
        """It has ended."""


class Connection:
    """Copies between a socket accepted inside and one connected outside, until both directions have ended."""

    def __init__(self, sandbox: Listeners, sock: socket.socket, targets: Sequence[Target]) -> None:
        self._sandbox = sandbox
        self._targets = deque(targets)
        self._inside = End(sock, connected=True)
        self._outside: End | None = None

    def connect(self, sock: socket.socket | None) -> None:
        """Try the next address of the server, with ``sock``. If none answers, the connection inside breaks."""
        if self._outside is not None:
            self._close(self._outside, reset=False)
            self._outside = None
        while self._targets:
            target = self._targets.popleft()
            with suppress(OSError):  # too much open, by others: we have closed one
                sock = sock or open_outgoing(target)
            if sock is None:
                continue
            error = sock.connect_ex(target)
            if error in (0, errno.EINPROGRESS):
                self._outside = End(sock, connected=not error)
                self.settle()
                return
            sock.close()
            sock = None
        self._close(self._inside, reset=True)
        self._sandbox.forget(self)

    def settle(self) -> None:
        """Pass on an end of data, and watch for what can go on; if nothing can, this is the end."""
        inside, outside = self._inside, self._outside
        if outside is None:
            return
        both = ((inside, outside), (outside, inside))
        for end, other in both:
            if end.eof and other.connected and not other.pending:
                if end.deaf:
                    self._finish(other)
                    return
                if not other.shut:
                    other.shut_down()
        # In a sandbox that has ended, nobody is left to hear what the server may still say.
        if inside.eof and outside.shut and (outside.eof or not self._sandbox.alive) and not inside.pending:
            self._finish(None)
            return
        self._sandbox.loop.watch(inside.fd, _wanted(inside, outside), self._inside_ready)
        self._sandbox.loop.watch(outside.fd, _wanted(outside, inside), self._outside_ready)

    def _inside_ready(self, events: int) -> None:
        assert self._outside is not None
        self._act(events, self._inside, self._outside)

    def _outside_ready(self, events: int) -> None:
        assert self._outside is not None
        self._act(events, self._outside, self._inside)

    def _act(self, events: int, end: End, other: End) -> None:
        if not end.connected:
            if end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.connect(None)
                return
            end.connected = True
        if end.pending:
            end.send(end.pending)
        if events & ~select.EPOLLOUT and _may_copy(end, other) and (piece := end.receive()):
            other.send(piece)
        self.settle()

    def _finish(self, survivor: End | None) -> None:
        """Close both ends; ``survivor`` sees a break, as its peer has broken, if all sent before that has arrived."""
        reset = survivor is not None and not survivor.unsent()
        for end in filter(None, (self._inside, self._outside)):
            self._close(end, reset=reset)
        self._sandbox.forget(self)

    def _close(self, end: End, *, reset: bool) -> None:
        self._sandbox.loop.watch(end.fd, 0, unwatch)
        end.close(reset=reset)


def _may_copy(end: End, other: End) -> bool:
    """Whether something that comes from ``end`` could be passed on."""
    return end.connected and not end.eof and other.connected and not other.pending and not other.deaf


def _wanted(end: End, other: End) -> int:
    """What to wait for at ``end``."""
    events = select.EPOLLOUT if end.pending or not end.connected else 0
    return events | select.EPOLLIN if _may_copy(end, other) else events


def open_outgoing(target: Target) -> socket.socket | None:
    """A socket to connect to ``target``; None if this machine has no such family. OSError if too much is open."""
    try:
        return prepare(socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET))
    except OSError as error:
        if error.errno in FULL:
            raise
        return None


def prepare(sock: socket.socket) -> socket.socket:
    """Passes small pieces on at once: whoever sent them has done the waiting, if it wanted any."""
    sock.settimeout(0)
    with suppress(OSError):  # it has broken already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
