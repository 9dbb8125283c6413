"""Who has which address on a bridge, and the names for them. Pure.

A network ``index``, from 1 on, has 10.(64 + index).0.0/16 and fd69:736f:6c61:index::/64 ("isola" in ASCII), ranges that
RFC 1918 and RFC 4193 leave to private use. Each sandbox gets the next number: one that has just ended may still be in a
peer's tables of neighbours, so its number is not used again before all others were. Nothing outside of the sandboxes
ever sees these addresses, so those of two sessions may be the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

NETWORKS = 128  #: in one session
_NODES = 65533  #: in one network, without the lowest and the highest address
PREFIX, PREFIX6 = 16, 64


class NodeAddress(NamedTuple):
    """One end of a virtual cable, in the sandbox."""

    ip: str
    ip6: str  #: "" where the kernel has no IPv6
    mac: str

    @property
    def link_local(self) -> str:
        """The IPv6 address that the kernel makes of the MAC address (RFC 4291, appendix A)."""
        octets = [int(octet, 16) for octet in self.mac.split(":")]
        whole = [octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]
        return "fe80::" + ":".join(f"{whole[at] << 8 | whole[at + 1]:x}" for at in range(0, 8, 2))


def address(index: int, number: int) -> NodeAddress:
    """The ``number``-th address, from 0 on, of network ``index``; after the last comes the first again."""
    node = number % _NODES + 1
    return NodeAddress(
        ip=f"10.{64 + index}.{node >> 8}.{node & 255}",
        ip6=f"fd69:736f:6c61:{index:x}::{node:x}",
        mac=f"02:69:73:{index:02x}:{node >> 8:02x}:{node & 255:02x}",  # 02: locally administered, unicast
    )


def hosts(named: Iterable[tuple[str, NodeAddress]]) -> str:
    """An /etc/hosts with these names, and nothing of the host's, of which nothing can be reached."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    for name, each in named:
        lines += [f"{ip} {name}" for ip in (each.ip, each.ip6) if ip]
    return "\n".join(lines) + "\n"
