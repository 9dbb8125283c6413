"""A program: carries TCP connections out of sandboxes to servers on the host's loopback. One per session that needs it.

Theory of operation. A socket stays in the network namespace in which it was made (network_namespaces(7)), wherever it
is used. So the test's process, before it runs the test, makes listening sockets in the sandbox's stack and passes them
here; here connections to them are accepted, the server is connected to from the host's stack, and bytes are copied
between the two. The sandbox gets nothing: no descriptor, no route, and no address of the host.

It imports the standard library and relay.py alone, as a test waits for it. Descriptor 3 is the control socket, on which
each datagram brings a JSON list with one entry per listener, the addresses to try for it, and as descriptors a pidfd of
the sandbox's PID 1 followed by those listeners. Descriptor 4 is a pidfd of pytest; when either ends, this program does.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import sys
from collections.abc import Sequence

from pytest_isolate.session.network.relay import (
    FULL,
    Connection,
    Handler,
    Loop,
    Target,
    open_outgoing,
    prepare,
    unwatch,
)

CONTROL, KEEPER = 3, 4
LISTENERS = 250  #: in one message; the kernel passes 253 descriptors at a time (unix(7), SCM_MAX_FD)
_MESSAGE = 1 << 16


class Sandbox:
    """The listeners in one sandbox, and the connections that came by them."""

    def __init__(self, loop: Loop, pidfd: int, listeners: Sequence[tuple[socket.socket, Sequence[Target]]]) -> None:
        self.loop = loop
        self.alive = True
        self._pidfd = pidfd
        self._listeners = listeners
        self._connections: set[Connection] = set()
        loop.watch(pidfd, select.EPOLLIN, self._died)
        self._listen()

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        self._connections.discard(connection)
        self.loop.freed()

    def _listen(self) -> None:
        for listener, targets in self._listeners:
            self.loop.watch(listener.fileno(), select.EPOLLIN, self._acceptor(listener, targets))

    def _acceptor(self, listener: socket.socket, targets: Sequence[Target]) -> Handler:
        def accept(_events: int) -> None:
            while self._accept(listener, targets):
                pass

        return accept

    def _accept(self, listener: socket.socket, targets: Sequence[Target]) -> bool:
        """Take one connection; whether there may be more."""
        outgoing = None
        try:
            outgoing = open_outgoing(targets[0])  # first, as one that was accepted could not wait for it
            sock, _ = listener.accept()
        except OSError as error:
            if outgoing is not None:
                outgoing.close()
            if error.errno in FULL:
                for each, _ in self._listeners:
                    self.loop.watch(each.fileno(), 0, unwatch)
                self.loop.when_freed(self._listen)
            return error.errno == errno.ECONNABORTED
        connection = Connection(self, prepare(sock), targets)
        self._connections.add(connection)
        connection.connect(outgoing)
        return True

    def _died(self, _events: int) -> None:
        """Everything inside is dead, but what it sent is on its way: to be delivered, as it would be without us."""
        self.alive = False
        self.loop.watch(self._pidfd, 0, unwatch)
        os.close(self._pidfd)
        for listener, targets in self._listeners:
            while self._accept(listener, targets):
                pass
            self.loop.watch(listener.fileno(), 0, unwatch)
            listener.close()
        self._listeners = ()
        for connection in tuple(self._connections):
            connection.settle()


def _hear(loop: Loop, control: socket.socket) -> None:
    text, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, LISTENERS + 1)
    if not text:
        sys.exit(0)
    pidfd, *rest = descriptors
    listeners = [prepare(socket.socket(fileno=fd)) for fd in rest]
    targets = [[(str(host), int(port)) for host, port in each] for each in json.loads(text)]
    Sandbox(loop, pidfd, list(zip(listeners, targets, strict=True)))


def main(_: str) -> None:
    """Serve until pytest has ended."""
    os.setsid()  # Ctrl-C is pytest's business
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop, control = Loop(), socket.socket(fileno=CONTROL)
    loop.watch(CONTROL, select.EPOLLIN, lambda _: _hear(loop, control))
    loop.watch(KEEPER, select.EPOLLIN, lambda _: sys.exit(0))
    loop.run()
