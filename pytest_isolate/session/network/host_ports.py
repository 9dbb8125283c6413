"""Servers on the host's loopback that a sandbox reaches at their own ports: ``host_ports``, the keeper's part.

What is listened for inside is decided before the fork, the sockets are made by the test's process before it runs the
test, and the bytes are carried by a program of its own, :mod:`pytest_isolate.session.network.forwarder`, which is
started when a test has the first such server.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
from collections.abc import Collection
from typing import NamedTuple

from pytest_isolate.linux import native
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox.helper_process import HelperProcess
from pytest_isolate.session.network.session_listeners import V4, V6, Lookup, LoopbackAddress
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

_PATIENCE = 10.0  # seconds for the forwarder to take a message, by which time it has been stopped
_BACKLOG = 4096  # the kernel takes net.core.somaxconn if that is less
#: Answers of bind(2) where a kernel has no IPv6: nothing can be reached there outside either.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Door(NamedTuple):
    """One port inside: where it is, and the addresses outside that it leads to, to be tried in this order."""

    inside: LoopbackAddress
    outside: tuple[LoopbackAddress, ...]


class HostPorts:
    """What the session serves, and the process that carries it."""

    def __init__(self, lookup: Lookup, opened: Collection[int] = ()) -> None:
        """:param opened: ports that are open to all runs, as they are when one begins."""
        self._lookup = lookup
        self._opened = opened
        self._served: tuple[Door, ...] | None = None  #: None: not looked for since something may have changed
        self._process: HelperProcess | None = None

    def look_again(self) -> None:
        """What the session serves may have changed."""
        self._served = None

    def doors(self, spec: Spec) -> tuple[Door, ...]:
        """What a test is to find; where there is something, the forwarder runs.

        :raises SetupError: it can't be started.
        """
        if spec.host_ports is None:
            return ()
        if self._served is None:
            self._served = tuple(Door(address, (address,)) for address in self._lookup.listeners())
        doors = self._served
        if wanted := {*spec.host_ports, *self._opened}:
            # Both addresses of a port that was named, as each name of the loopback interface then works, and the server
            # is free to start later. Only outside it is seen which of them is served.
            listed = [(LoopbackAddress(V4, port), LoopbackAddress(V6, port)) for port in sorted(wanted)]
            named = [Door(each, pair if each is pair[0] else pair[::-1]) for pair in listed for each in pair]
            known = {door.inside for door in named}
            doors = (*named, *(door for door in doors if door.inside not in known))
        if doors and (self._process is None or not self._process.alive()):
            self.close()
            self._process = _start()
        return doors

    def secrets(self, doors: tuple[Door, ...]) -> tuple[Fd, ...]:
        """Descriptors that must not reach a test. Where it has ``doors``, its process uses one, and closes it."""
        if self._process is None:
            return ()
        return tuple(fd for fd in self._process.secrets() if not doors or fd != self._process.control.fileno())

    def open(self, doors: tuple[Door, ...], init: int) -> None:
        """In the sandbox, before the test: listen at ``doors``, and hand the sockets over.

        :param init: pid of the process with which the sandbox ends, as it is called inside.
        :raises SetupError: with the address that could not be had.
        """
        if not doors:
            return
        from pytest_isolate.session.network.forwarder import LISTENERS  # noqa: PLC0415 - it has been started

        assert self._process is not None
        control = self._process.control
        with contextlib.ExitStack() as opened:
            opened.callback(control.close)
            pidfd = native.pidfd_open(init)
            opened.callback(calls.close, pidfd)
            pairs = [(sock, door.outside) for door in doors if (sock := _listener(door.inside)) is not None]
            for sock, _ in pairs:
                opened.callback(sock.close)
            for at in range(0, len(pairs), LISTENERS):
                part = pairs[at : at + LISTENERS]
                text = calls.encode([outside for _, outside in part]).encode("ascii")
                fds = [pidfd, *(sock.fileno() for sock, _ in part)]
                try:
                    control.send(text, fds, seconds=_PATIENCE)
                except OSError as error:
                    where, code = f"pid {self._process.pid}", error.errno or 0
                    raise SetupError("reach the forwarder of host ports", where, code, "Was it killed?") from error

    def abandon(self) -> None:
        """In a fork that goes on: close what leads to the forwarder, which goes on, too."""
        if self._process is not None:
            self._process.abandon()

    def close(self) -> None:
        """End the forwarder."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _start() -> HelperProcess:
    from pytest_isolate.session.network import forwarder  # noqa: PLC0415 - few sessions serve something

    return HelperProcess.of_module("forwarder of host ports", forwarder.__name__)


def _listener(address: LoopbackAddress) -> _socket.socket | None:
    """A socket that listens at ``address``; None if the sandbox has no such family."""
    sock = None
    try:
        sock = calls.socket(address.family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        if address.family == socket.AF_INET6 and error.errno in _NO_FAMILY:
            return None
        raise SetupError("listen in the sandbox", f"{address.host} port {address.port}", error.errno or 0) from error
    return sock
