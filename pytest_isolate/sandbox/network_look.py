"""Inside: where a test tried to go though its sandbox has no way there: a name to be looked up, an address.

What Python's own sockets are given is heard by an audit hook (PEP 578), which code that replaces them does not call. Of
programs, and of libraries that call the kernel themselves, the kernel counts what had no route.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.sandbox.outcome import Leak

#: Events of the module socket, each with the number of the argument that is an address; None: a host's name.
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": None,
    "socket.gethostbyname": None,
}
_INTERNET = (2, 10)  # AF_INET, AF_INET6
_UDP = 2  # SOCK_DGRAM
_NUMERIC = 4  # AI_NUMERICHOST: asks no server
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH)
_MOST = 50  # places
#: Of /proc/net/snmp and snmp6, in which namespaces count for themselves.
_COUNTERS = ("/proc/net/snmp", "Ip:", "OutNoRoutes"), ("/proc/net/snmp6", "Ip6OutNoRoutes", "")

#: Host, port ("" if there is none), and whether it was looked up only, which of an address says nothing.
Place = tuple[str, str, bool]


class Attempts:
    """Remembers where the test's process wants to go."""

    def __init__(self) -> None:
        self._wanted: dict[Place, int] = {}  # -> times
        self._hears = True
        self._before = _count_unroutable()

    @classmethod
    def watch(cls) -> Attempts:
        """From now on, for as long as this process lives."""
        attempts = cls()
        sys.addaudithook(attempts.hear)
        return attempts

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """The audit hook. It must not raise: the test would see that."""
        if event in _EVENTS and self._hears and len(self._wanted) < _MOST:
            place = _place(_EVENTS[event], arguments)
            if place is not None:
                self._wanted[place] = self._wanted.get(place, 0) + 1

    def left(self, is_outside: Callable[[str, bool], bool] | None = None) -> Iterator[Leak]:
        """The attempts to go where there is no way. Nothing is heard from now on.

        :param is_outside: whether a host is no part of the sandbox, and whether it was only looked up.
        """
        self._hears = False  # of what the look does itself
        unroutable = _count_unroutable() - self._before
        outside = is_outside or Names().is_outside
        found = [(place, times) for place, times in [*self._wanted.items()] if outside(place[0], place[2])]
        for (host, port, _), times in found:
            name = f"[{host}]" if ":" in host and port else host
            yield Leak("network", f"{name}:{port}" if port else name, "" if times == 1 else f"{times} times")
        if unroutable > 0 and not found:
            yield Leak("network", "unknown", f"{unroutable} packets without a route, of a program")


class Names:
    """What the sandbox knows by itself."""

    def __init__(self) -> None:
        self._own = {"", "localhost", calls.gethostname()}
        with suppress(OSError):
            for line in files.read_text("/etc/hosts").splitlines():
                self._own.update(line.partition("#")[0].split()[1:])

    def is_outside(self, host: str, looked_up: bool) -> bool:  # noqa: FBT001 - part of a Place
        """Whether it is a name that only a server could resolve, or an address that there is no route to."""
        try:
            family, _, _, _, address = calls.getaddrinfo(host, 9, 0, _UDP, 0, _NUMERIC)[0]
        except OSError:  # it is a name
            return host not in self._own and not host.endswith(".localhost")
        if looked_up:
            return False
        with suppress(OSError):
            udp = calls.socket(family, _UDP)
            try:
                udp.connect(address)  # sends nothing
            except OSError as error:
                return error.errno in _NO_WAY
            finally:
                udp.close()
        return False


def _place(address_at: int | None, arguments: tuple[object, ...]) -> Place | None:
    if address_at is None:
        host, port = (*arguments, None)[:2]
    else:
        address = arguments[address_at] if len(arguments) > address_at else None
        if getattr(arguments[0], "family", None) not in _INTERNET or not isinstance(address, tuple):
            return None
        host, port = (*address, None, None)[:2]
    if isinstance(host, bytes):
        host = host.decode("utf-8", "replace")
    if not isinstance(host, str):
        return None
    return host.rstrip("."), str(port) if isinstance(port, (int, str)) else "", address_at is None


def _count_unroutable() -> int:
    """Packets and connections of this network namespace that had no route; 0 where the kernel does not tell."""
    found = 0
    for path, line_start, column in _COUNTERS:
        with suppress(OSError, ValueError, IndexError):
            lines = [line.split() for line in files.read_text(path).splitlines() if line.startswith(line_start)]
            found += int(lines[1][lines[0].index(column)] if column else lines[0][1])
    return found
