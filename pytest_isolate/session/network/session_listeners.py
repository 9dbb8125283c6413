"""Which TCP servers on this host's loopback belong to a session: those of its processes, as /proc shows them.

A process is the session's if it is its first process or descends from it, or if it has the session's name in its
environment: so a server that has left the tree by forking twice, as ``pg_ctl start`` makes one, is found too.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from pytest_isolate.linux import files, procfs, tcp_table
from pytest_isolate.linux.calls import calls
from pytest_isolate.spec.errors import SetupError

#: Variable that holds the session's name, for what its fixtures start.
COOKIE = "PYTEST_ISOLATE_SESSION"
V4, V6 = "127.0.0.1", "::1"


class LoopbackAddress(NamedTuple):
    """Where a server can be reached on the loopback interface."""

    host: str  #: numeric: one of 127.0.0.0/8, or ``::1``
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """The family of ``host``."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


class Lookup:
    """Finds a session's listeners, again and again; who owns one is asked once, as that does not change."""

    def __init__(self, first: int, name: str, proc: Path = procfs.PROC, *, hidden: Collection[int] = ()) -> None:
        """:param first: pid of the session's first process. :param name: value of :data:`COOKIE`.

        :param hidden: ports of servers that are not for tests.
        """
        self.first, self.name, self.proc, self._hidden = first, name, proc, hidden
        #: inode of each listener that there is: where it can be reached if it is the session's, else nothing
        self._known: dict[int, tuple[LoopbackAddress, ...]] = {}

    def listeners(self) -> tuple[LoopbackAddress, ...]:
        """Addresses of the session's servers, sorted.

        :raises SetupError: the kernel does not tell them.
        """
        found = {inode: addresses for inode, owner, addresses in self._listening() if addresses and _askable(owner)}
        self._known = {inode: addresses for inode, addresses in self._known.items() if inode in found}
        if unknown := found.keys() - self._known.keys():
            mine = self._owned(unknown)
            self._known.update((inode, _answering(found[inode]) if inode in mine else ()) for inode in unknown)
        served = {address for addresses in self._known.values() for address in addresses}
        return tuple(sorted(address for address in served if address.port not in self._hidden))

    def _listening(self) -> Iterator[tuple[int, int, tuple[LoopbackAddress, ...]]]:
        """Inode, owner's uid and addresses of each listener in our network namespace (proc_net_tcp.rst)."""
        try:
            for each in tcp_table.listening(self.proc):
                yield each.inode, each.uid, addresses(each.address)
        except OSError as error:
            raise SetupError("look for this session's servers", str(error.filename), error.errno or 0) from error

    def _owned(self, inodes: Iterable[int]) -> set[int]:
        """Those of ``inodes`` that a process of the session has open."""
        links = {f"socket:[{inode}]": inode for inode in inodes}
        mine: set[int] = set()
        parents = procfs.parents(self.proc)
        tree = set(procfs.descendants(self.first, parents))
        cookie = calls.fsencode(f"{COOKIE}={self.name}")
        for pid in (*sorted(tree), *(pid for pid in parents if pid not in tree)):
            if len(mine) == len(links):
                break
            if pid in tree or cookie in self._environment(pid):
                mine |= {links[link] for link in self._open(pid) if link in links}
        return mine

    def _environment(self, pid: int) -> list[bytes]:
        """What the process was started with; nothing if we may not see it."""
        with suppress(OSError):
            return files.read_bytes(f"{self.proc}/{pid}/environ").split(b"\0")
        return []

    def _open(self, pid: int) -> Iterator[str]:
        """What the process has open, as far as we may see it."""
        with suppress(OSError):
            for name in calls.listdir(f"{self.proc}/{pid}/fd"):
                with suppress(OSError):
                    yield calls.readlink(f"{self.proc}/{pid}/fd/{name}")


def addresses(text: str) -> tuple[LoopbackAddress, ...]:
    """Where on loopback the listener at ``text`` of /proc/net/tcp or tcp6 can be reached; nothing if it can't."""
    ip, port = tcp_table.decode(text)
    if isinstance(ip, IPv6Address):
        if int(ip) == 0:  # which takes IPv4 as well, unless it was told not to (ipv6(7), IPV6_V6ONLY)
            return LoopbackAddress(V6, port), LoopbackAddress(V4, port)
        ip = ip.ipv4_mapped or ip
    if int(ip) == 0:
        return (LoopbackAddress(V4, port),)
    return (LoopbackAddress(str(ip), port),) if ip.is_loopback else ()


def _answering(both: tuple[LoopbackAddress, ...]) -> tuple[LoopbackAddress, ...]:
    """Without the IPv4 address of a server on all of IPv6 that does not take it: nobody has that port then."""
    if len(both) > 1:
        sock = calls.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.bind(both[1])
        except OSError:
            return both
        finally:
            sock.close()
        return both[:1]
    return both


def _askable(owner: int) -> bool:
    """Whether we may see whose a listener of this user is (proc_pid_fd(5)): else it can't be told, and is not ours."""
    return calls.geteuid() in (0, owner)
