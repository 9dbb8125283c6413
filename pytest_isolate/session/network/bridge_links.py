"""The broker's netlink half: bridges, cables, addresses, routes. The only module that imports pyroute2."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pytest_isolate.linux import native
from pytest_isolate.linux.flags import Clone

try:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError as error:
    MISSING: str | None = str(error)  #: why there is no pyroute2; None if there is
else:
    MISSING = None

_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_PERMANENT = 0x80  # NUD_PERMANENT of linux/neighbour.h
_NOBODY = "02:69:73:ff:ff:ff"  # a MAC address that no sandbox has
_HANDLE, _ROOT = 0x10000, 0xFFFFFFFF  # "1:" and "root" of tc(8)
_PLAIN: tuple[float, float, int | None] = (0.0, 0.0, None)
#: Answers of a kernel that has no IPv6, or has it switched off (net.ipv6.conf.default.disable_ipv6).
_NO_IPV6 = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES)
_LOCAL = 2  # RTN_LOCAL of linux/rtnetlink.h
_ROUTE_SECONDS = 1.0
_NODAD = 0x02  # IFA_F_NODAD: usable at once, as nobody else can have the address
Answer = dict[str, Any]


class RefusedError(Exception):
    """The kernel would not; args: what was done, in words, to what, and errno."""


@contextmanager
def _doing(step: str, target: str) -> Iterator[None]:
    """Name what is being done, should it fail."""
    try:
        yield
    except NetlinkError as error:
        raise RefusedError(step, target, error.code) from error
    except OSError as error:
        raise RefusedError(step, target, error.errno or 0) from error


class BridgeLinks:
    """The network namespace of this process, with its bridges and the cables to them."""

    def __init__(self, *, user_namespace: bool) -> None:
        """:raises RefusedError: this host has no bridges, or allows none."""
        ids = os.geteuid(), os.getegid()  # once in the user namespace, they are unknown until its maps are written
        with _doing("make a network namespace for bridges", ""):
            native.unshare(Clone.NEWNET | (Clone.NEWUSER if user_namespace else Clone(0)))
        if user_namespace:
            with _doing("write the id map", "the broker's user namespace"):
                _write_maps(*ids)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._netlink = IPRoute()
        self._indices: dict[str, int] = {}  # of bridges, by name of the network
        self._bridges = self._ports = 0  # made so far
        self._shapes: dict[str, tuple[float, float, int | None]] = {}  # of networks with other than plain cables
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
                if network in self._shapes:
                    self._apply(self._index(port), self._shapes[network])
            finally:
                os.close(theirs)
            end = netlink.link_lookup(ifname="eth0")[0]
            netlink.addr("add", index=end, address=address["ip"], prefixlen=lengths[0], family=_INET)
            six = True
            try:
                netlink.addr(
                    "add", index=end, address=address["ip6"], prefixlen=lengths[1], family=_INET6, flags=_NODAD
                )
            except NetlinkError as error:
                if error.code not in _NO_IPV6:
                    raise
                six = False
            # Nor can anybody else have the link-local address that the kernel adds: else it is of no use for a second.
            _set("ipv6/conf/eth0/accept_dad", 0)
            netlink.link("set", index=end, state="up")
            if six:
                _wait_for_route(netlink, address["ip6"])
        return {"port": port, "ip6": six}

    def release(self, pidfd: int) -> Answer:
        """A sandbox is about to end. What its programs have not delivered by then need not be tried for long.

        A connection whose process has died keeps its network namespace, with our cable, until the other end has
        answered or tcp_orphan_retries are over (ip-sysctl.rst): minutes, if the other end has ended as well.
        """
        with suppress(OSError):  # it has ended already
            native.setns(pidfd, Clone.NEWNET)
            try:
                _set("ipv4/tcp_orphan_retries", 1)
            finally:
                native.setns(self._home, Clone.NEWNET)
        return {}

    def drop(self, network: str) -> Answer:
        """Remove a bridge. Ends of cables to sandboxes that are just ending go with their other ends."""
        if network in self._indices:
            with _doing("remove the bridge", network):
                self._netlink.link("del", index=self._indices.pop(network))
        self._shapes.pop(network, None)
        return {}

    def deafen(self, pidfd: int, *, peers: Sequence[str], heal: bool) -> Answer:
        """Let a sandbox send what is for ``peers`` where nobody is, or to them again.

        By a permanent entry in its table of neighbours, which nothing that it hears changes (arp(7)): no part of the
        kernel is needed that may be lacking, and its programs see what they see when a cable is cut: silence.
        """
        with self._inside(pidfd) as netlink, _doing("cut the network", " ".join(peers)):
            end = netlink.link_lookup(ifname="eth0")[0]
            for peer in peers:
                family = _INET6 if ":" in peer else _INET
                if not heal:
                    netlink.neigh("replace", ifindex=end, dst=peer, lladdr=_NOBODY, state=_PERMANENT, family=family)
                    continue
                with suppress(NetlinkError):  # was not cut, or has been healed inside
                    netlink.neigh("del", ifindex=end, dst=peer, family=family)
        return {}

    def shape(self, network: str, *, delay: float, loss: float, rate: int | None) -> Answer:
        """How traffic to the sandboxes of a network is to pass. Seconds, a share, bytes per second."""
        before = self._shapes.get(network, _PLAIN)
        self._shapes[network] = wanted = delay, loss, rate
        if not (ports := self._ports_of(network)):
            ports = [self._bridge(network)]  # to know whether it works
        try:
            for port in ports:
                self._apply(port, wanted)
        except RefusedError:
            self._shapes[network] = before
            for port in ports:
                self._apply(port, before)
            raise
        return {}

    def _apply(self, port: int, shape: tuple[float, float, int | None]) -> None:
        delay, loss, rate = shape
        with suppress(NetlinkError):  # there was none
            self._netlink.tc("del", index=port, parent=_ROOT)
        if delay or loss:
            with _doing("add a netem queue", "the bridge's ports"):
                more = {} if rate is None else {"rate": rate}
                limit = 100_000  # packets under way; its usual 1000 would be loss on a long, fast line
                self._netlink.tc(
                    "add", "netem", port, _HANDLE, delay=int(delay * 1_000_000), loss=loss * 100, limit=limit, **more
                )
        elif rate is not None:
            with _doing("add a tbf queue", "the bridge's ports"):
                # A tenth of a second's worth at once, but no less than the largest packet (with TCP's segments joined).
                burst = max(rate // 10, 1 << 16)
                self._netlink.tc("add", "tbf", port, _HANDLE, rate=rate, burst=burst, latency="400ms")

    def traffic(self, port: str) -> Answer:
        """What went to and from a sandbox so far: what the bridge's end of its cable has received, it has sent."""
        with _doing("count the traffic", port):
            stats = self._netlink.get_links(self._index(port))[0].get_attr("IFLA_STATS64")
        return {
            "traffic": {
                "bytes_in": stats["tx_bytes"],
                "bytes_out": stats["rx_bytes"],
                "packets_in": stats["tx_packets"],
                "packets_out": stats["rx_packets"],
            }
        }

    def _ports_of(self, network: str) -> list[int]:
        if network not in self._indices:
            return []
        links = self._netlink.get_links()
        return [link["index"] for link in links if link.get_attr("IFLA_MASTER") == self._indices[network]]

    def links(self) -> Answer:
        """Names of all there is, for tests."""
        return {"links": [link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()]}

    def _bridge(self, network: str) -> int:
        if network not in self._indices:
            name = f"br{self._bridges}"
            self._bridges += 1
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
        with _doing("join the sandbox's network namespace", ""):
            native.setns(pidfd, Clone.NEWNET)
        try:
            with IPRoute() as netlink:
                yield netlink
        finally:
            native.setns(self._home, Clone.NEWNET)


def _set(name: str, value: int) -> None:
    """A setting of the network namespace that this process is in, if it has that (ip-sysctl.rst)."""
    with suppress(OSError), open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
        file.write(str(value))


def _wait_for_route(netlink: Any, address: str) -> None:
    """Until a sandbox reaches its own IPv6 address: the kernel adds that route a moment later (addrconf_dad_work)."""
    deadline = time.monotonic() + _ROUTE_SECONDS
    while time.monotonic() < deadline:
        with suppress(NetlinkError):  # there is no route at all yet
            if netlink.route("get", dst=address, family=_INET6)[0]["type"] == _LOCAL:
                return
        time.sleep(0.0005)


def _write_maps(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
