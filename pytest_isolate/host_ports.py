"""Servers on the host's loopback that a sandbox reaches at their own ports: ``host_ports``, the keeper's part.

What is listened for inside is decided before the fork, the sockets are made by the test's process before it runs the
test, and the bytes are carried by a program of its own, :mod:`pytest_isolate.forwarder`, which is started when a test
has the first such server.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pytest_isolate import forwarder, native, processes
from pytest_isolate.errors import SetupError
from pytest_isolate.listeners import V4, V6, Address, Lookup
from pytest_isolate.spec import Spec

_BACKLOG = 4096  # the kernel takes net.core.somaxconn if that is less
#: Answers of bind(2) where a kernel has no IPv6: nothing can be reached there outside either.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Door(NamedTuple):
    """One port inside: where it is, and the addresses outside that it leads to, to be tried in this order."""

    inside: Address
    outside: tuple[Address, ...]


class HostPorts:
    """What the session serves, and the process that carries it."""

    def __init__(self, lookup: Lookup, opened: Collection[int] = ()) -> None:
        """:param opened: ports that are open to all runs, as they are when one begins."""
        self._lookup = lookup
        self._opened = opened
        self._served: tuple[Door, ...] | None = None  #: None: not looked for since something may have changed
        self._process: tuple[int, socket.socket] | None = None

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
            listed = [(Address(V4, port), Address(V6, port)) for port in sorted(wanted)]
            named = [Door(each, pair if each is pair[0] else pair[::-1]) for pair in listed for each in pair]
            known = {door.inside for door in named}
            doors = (*named, *(door for door in doors if door.inside not in known))
        if doors and not self._running():
            self._start()
        return doors

    def fileno(self) -> int | None:
        """The forwarder's control socket, which must not reach a test; None if there is no forwarder."""
        return None if self._process is None else self._process[1].fileno()

    def open(self, doors: tuple[Door, ...], init: int) -> None:
        """In the sandbox, before the test: listen at ``doors``, and hand the sockets over.

        :param init: pid of the process with which the sandbox ends, as it is called inside.
        :raises SetupError: with the address that could not be had.
        """
        if not doors:
            return
        assert self._process is not None
        with self._process[1] as control, contextlib.ExitStack() as opened:
            pidfd = native.pidfd_open(init)
            opened.callback(os.close, pidfd)
            pairs = [(sock, door.outside) for door in doors if (sock := _listener(door.inside)) is not None]
            for sock, _ in pairs:
                opened.callback(sock.close)
            for at in range(0, len(pairs), forwarder.LISTENERS):
                part = pairs[at : at + forwarder.LISTENERS]
                text = json.dumps([outside for _, outside in part]).encode("ascii")
                try:
                    socket.send_fds(control, [text], [pidfd, *(sock.fileno() for sock, _ in part)])
                except OSError as error:
                    raise SetupError(
                        "reach the forwarder of host ports",
                        f"pid {self._process[0]}",
                        error.errno or 0,
                        "Was it killed?",
                    ) from error

    def close(self) -> None:
        """End the forwarder."""
        if self._process is not None:
            pid, control = self._process
            self._process = None
            control.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _running(self) -> bool:
        if self._process is not None:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._process[0], os.WNOHANG)[0] == 0:
                    return True
            self._process[1].close()
            self._process = None
        return False

    def _start(self) -> None:
        script = str(Path(forwarder.__file__).resolve())
        # Isolated, and without the site module: it needs the standard library alone, and a test is waiting.
        arguments = [sys.executable, "-I", "-S", script, f"for={os.getpid()}"]
        self._process = processes.start("forwarder of host ports", sys.executable, arguments, os.environ)


def _listener(address: Address) -> socket.socket | None:
    """A socket that listens at ``address``; None if the sandbox has no such family."""
    sock = None
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
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
