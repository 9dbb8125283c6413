"""Which TCP servers on this host's loopback belong to a session: those of its processes, as /proc shows them.

A process is the session's if it is its first process or descends from it, or if it has the session's name in its
environment: so a server that has left the tree by forking twice, as ``pg_ctl start`` makes one, is found too.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

#: Variable that holds the session's name, for what its fixtures start.
COOKIE = "PYTEST_ISOLATE_SESSION"

_LISTENING = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_TABLES = ("tcp", "tcp6")
V4, V6 = "127.0.0.1", "::1"


class Address(NamedTuple):
    """Where a server can be reached on the loopback interface."""

    host: str  #: numeric: one of 127.0.0.0/8, or ``::1``
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """The family of ``host``."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


@dataclass(slots=True)
class Lookup:
    """Finds a session's listeners, again and again; who owns one is asked once, as that does not change."""

    first: int  #: pid of the session's first process
    name: str  #: value of :data:`COOKIE`
    proc: Path = Path("/proc")
    #: inode of each listener that there is: where it can be reached if it is the session's, else nothing
    _known: dict[int, tuple[Address, ...]] = field(default_factory=dict)

    def listeners(self) -> tuple[Address, ...]:
        """Addresses of the session's servers, sorted."""
        found = {inode: addresses for inode, owner, addresses in self._listening() if addresses and _askable(owner)}
        self._known = {inode: addresses for inode, addresses in self._known.items() if inode in found}
        if unknown := found.keys() - self._known.keys():
            mine = self._owned(unknown)
            self._known.update((inode, _answering(found[inode]) if inode in mine else ()) for inode in unknown)
        return tuple(sorted({address for addresses in self._known.values() for address in addresses}))

    def _listening(self) -> Iterator[tuple[int, int, tuple[Address, ...]]]:
        """Inode, owner's uid and addresses of each listener in our network namespace (proc_net_tcp.rst)."""
        for table in _TABLES:
            with suppress(FileNotFoundError), open(self.proc / "self/net" / table, encoding="ascii") as file:
                for line in file:
                    fields = line.split()
                    if fields[3] == _LISTENING:
                        yield int(fields[9]), int(fields[7]), addresses(fields[1])

    def _owned(self, inodes: Iterable[int]) -> set[int]:
        """Those of ``inodes`` that a process of the session has open."""
        links = {f"socket:[{inode}]": inode for inode in inodes}
        mine: set[int] = set()
        parents = self._parents()
        tree = {self.first}
        while more := {pid for pid, parent in parents.items() if parent in tree and pid not in tree}:
            tree |= more
        cookie = os.fsencode(f"{COOKIE}={self.name}")
        for pid in (*sorted(tree), *(pid for pid in parents if pid not in tree)):
            if len(mine) == len(links):
                break
            if pid in tree or cookie in self._environment(pid):
                mine |= {links[link] for link in self._open(pid) if link in links}
        return mine

    def _parents(self) -> dict[int, int]:
        """The parent of each process."""
        parents = {}
        for name in os.listdir(self.proc):
            if name.isdigit():
                with suppress(OSError):
                    parents[int(name)] = int(
                        (self.proc / name / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
                    )
        return parents

    def _environment(self, pid: int) -> list[bytes]:
        """What the process was started with; nothing if we may not see it."""
        with suppress(OSError):
            return (self.proc / str(pid) / "environ").read_bytes().split(b"\0")
        return []

    def _open(self, pid: int) -> Iterator[str]:
        """What the process has open, as far as we may see it."""
        with suppress(OSError):
            for name in os.listdir(self.proc / str(pid) / "fd"):
                with suppress(OSError):
                    yield os.readlink(self.proc / str(pid) / "fd" / name)


def addresses(text: str) -> tuple[Address, ...]:
    """Where on loopback the listener at ``text`` of /proc/net/tcp or tcp6 can be reached; nothing if it can't."""
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)  # each word is shown as a number, but holds bytes in network order
    ip = IPv4Address(raw) if len(words) == 1 else IPv6Address(raw)
    if isinstance(ip, IPv6Address):
        if int(ip) == 0:  # which takes IPv4 as well, unless it was told not to (ipv6(7), IPV6_V6ONLY)
            return Address(V6, int(port, 16)), Address(V4, int(port, 16))
        ip = ip.ipv4_mapped or ip
    if int(ip) == 0:
        return (Address(V4, int(port, 16)),)
    return (Address(str(ip), int(port, 16)),) if ip.is_loopback else ()


def _answering(both: tuple[Address, ...]) -> tuple[Address, ...]:
    """Without the IPv4 address of a server on all of IPv6 that does not take it: nobody has that port then."""
    if len(both) > 1:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(both[1])
            return both[:1]
    return both


def _askable(owner: int) -> bool:
    """Whether we may see whose a listener of this user is (proc_pid_fd(5)): else it can't be told, and is not ours."""
    return os.geteuid() in (0, owner)
