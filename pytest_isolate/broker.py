"""A program: keeps the bridges of a session, and connects sandboxes to them. One per session that has any.

Theory of operation. The bridges are in a network namespace of this process, which has no link to the host's, and vanish
with it. A virtual cable (veth(4)) has one end there and one in a sandbox, so whoever lays it needs rights over both:
real root has them; else this process makes a user namespace first, and the sandboxes that it is to connect are built
below that one (``join_broker`` in ``_native/builder.c``), which gives it all rights there (user_namespaces(7)).

Descriptor 3 is the control socket: each datagram is a JSON object, ``do`` and its parameters, and is answered by one,
which has ``refused`` if it could not be done. A pidfd that comes with it is that of a sandbox's PID 1. Descriptor 4 is
a pidfd of pytest; when either ends, this program does. pyroute2 is imported here alone: it takes longer than pytest.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from pytest_isolate import native
from pytest_isolate.plan import Clone

CONTROL, KEEPER = 3, 4
_MESSAGE = 1 << 16
_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_NODAD = 0x02  # IFA_F_NODAD: usable at once, as nobody else can have the address

Answer = dict[str, Any]


class RefusedError(Exception):
    """The kernel would not; args: what was done, in words, to what, and errno."""


@contextmanager
def _doing(step: str, target: str) -> Iterator[None]:
    """Name what is being done, should it fail."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise RefusedError(step, target, error.code) from error
    except OSError as error:
        raise RefusedError(step, target, error.errno or 0) from error


class Bridges:
    """The network namespace of this process, with its bridges and the cables to them."""

    def __init__(self, *, user_namespace: bool) -> None:
        """:raises RefusedError: this host has no bridges, or allows none."""
        ids = os.geteuid(), os.getegid()  # once in the user namespace, they are unknown until its maps are written
        with _doing("make a network namespace for bridges", ""):
            native.unshare(Clone.NEWNET | (Clone.NEWUSER if user_namespace else Clone(0)))
        if user_namespace:
            with _doing("write the id map", "the broker's user namespace"):
                _write_maps(*ids)
        from pyroute2 import IPRoute

        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._netlink = IPRoute()
        self._indices: dict[str, int] = {}  # of bridges, by name of the network
        self._ports = 0
        self._try()

    def _try(self) -> None:
        """Make one of each kind, and take it away."""
        for kind, more in (("bridge", {}), ("veth", {"peer": {"ifname": "try1"}})):
            with _doing(f"make a network device of type {kind}", ""):
                self._netlink.link("add", ifname="try0", kind=kind, **more)
                self._netlink.link("del", index=self._index("try0"))

    def attach(self, pidfd: int, network: str, address: Mapping[str, str], lengths: tuple[int, int]) -> Answer:
        """Connect a sandbox. The answer's ``port`` is the number of the cable, ``ip6`` whether it has IPv6."""
        self._ports += 1
        port = f"v{self._ports}"
        with self._inside(pidfd) as netlink, _doing("connect the sandbox to the bridge", network or "without a name"):
            theirs = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                peer = {"ifname": "eth0", "address": address["mac"], "net_ns_fd": theirs}
                bridge = self._bridge(network)
                self._netlink.link("add", ifname=port, kind="veth", peer=peer, master=bridge, state="up")
            finally:
                os.close(theirs)
            end = netlink.link_lookup(ifname="eth0")[0]
            netlink.addr("add", index=end, address=address["ip"], prefixlen=lengths[0], family=_INET)
            six = os.path.exists("/proc/sys/net/ipv6")  # a kernel without IPv6 has no use for the other address
            if six:
                netlink.addr(
                    "add", index=end, address=address["ip6"], prefixlen=lengths[1], family=_INET6, flags=_NODAD
                )
            netlink.link("set", index=end, state="up")
        return {"port": port, "ip6": six}

    def links(self) -> Answer:
        """Names of all there is, for tests."""
        return {"links": [link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()]}

    def _bridge(self, network: str) -> int:
        if network not in self._indices:
            name = f"br{len(self._indices)}"
            # No snooping: it would hold back the multicasts by which IPv6 finds neighbours, as nobody asks here who
            # wants them (Documentation/networking/bridge.rst).
            self._netlink.link("add", ifname=name, kind="bridge", br_mcast_snooping=0)
            self._indices[network] = self._index(name)
            self._netlink.link("set", index=self._indices[network], state="up")
        return self._indices[network]

    def _index(self, name: str) -> int:
        return int(self._netlink.link_lookup(ifname=name)[0])

    @contextmanager
    def _inside(self, pidfd: int) -> Iterator[Any]:
        """A netlink socket in the network namespace of a sandbox; this process is there meanwhile."""
        from pyroute2 import IPRoute

        with _doing("join the sandbox's network namespace", ""):
            native.setns(pidfd, Clone.NEWNET)
        try:
            with IPRoute() as netlink:
                yield netlink
        finally:
            native.setns(self._home, Clone.NEWNET)


def _write_maps(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except RefusedError as error:
        return {"refused": error.args}


def _serve(bridges: Bridges, control: socket.socket) -> None:
    """Until pytest has ended or closed the socket."""
    poll = select.poll()
    for fd in (CONTROL, KEEPER):
        poll.register(fd, select.POLLIN)
    while not any(fd == KEEPER for fd, _ in poll.poll()):
        message, fds, _, _ = socket.recv_fds(control, _MESSAGE, 1)
        if not message:
            return
        asked = json.loads(message)
        work = getattr(bridges, asked.pop("do"))
        try:
            answer = _answer(partial(work, *fds, **asked))
        finally:
            for fd in fds:
                os.close(fd)
        control.send(json.dumps(answer).encode())


def main(user_namespace: str) -> None:
    """Say whether it works here, then serve."""
    os.closerange(KEEPER + 1, os.sysconf("SC_OPEN_MAX"))
    os.setsid()  # Ctrl-C is pytest's business
    os.chdir("/")
    made: list[Bridges] = []

    def make() -> Answer:
        try:
            import pyroute2  # noqa: F401
        except ImportError as error:
            return {"missing": str(error)}
        made.append(Bridges(user_namespace=user_namespace == "userns"))
        return {}

    with socket.socket(fileno=CONTROL) as control:
        control.send(json.dumps(_answer(make)).encode())
        if made:
            _serve(made[0], control)


if __name__ == "__main__":
    main(sys.argv[1])
