"""A sandbox's way to the outside, as a Plan has it: the commands that make it, and who is asked for names. Pure.

Inside, ``eth0`` has the first address of the networks that :mod:`~pytest_isolate.session.network.addresses` leaves
free, so that it is never one of the host's. For what the two programs are, and why two, see ``_native/pasta.c``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_NETWORK, _NETWORK6 = "10.64.0.", "fd69:736f:6c61::"
_GATEWAY, _ADDRESS, _NAMES = "1", "2", "3"
_LINK = "eth0"
#: Of both programs: no port of either side is forwarded to the other, no address stands for the host's loopback, and
#: the interface is set up at once, not by DHCP.
_CLOSED = (
    *("--foreground", "--quiet", "--pid", "/proc/self/fd/1", "--netns-only", "--netns", "/proc/self/fd/0"),
    "--no-netns-quit",  # it is killed, and the path is none that it could watch
    *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw"),
    *("--config-net", "--no-dhcp", "--no-dhcpv6", "--no-ra", "--ns-ifname", _LINK),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """What a Plan needs to know of the way to the outside."""

    program: str  #: path of pasta
    resolver: str  #: content of the sandbox's resolv.conf
    answered: tuple[str, ...]  #: addresses in it that pasta answers for
    resolver_path: str  #: where the host has its own resolv.conf, links followed; "" if it has none


def commands(uplink: Uplink, *, real_root: bool) -> tuple[tuple[str, ...], ...]:
    """For ``Plan.uplink``. The inner one shows the sandbox what the outer one shows it, addresses included."""
    # Else pasta would turn root into nobody, and nobody has no rights in the sandbox's user namespace. The root of that
    # namespace has none elsewhere.
    who = ("--runas", "0:0") if real_root else ()
    outer = [
        *("--address", f"{_NETWORK}{_ADDRESS}", "--netmask", "24", "--gateway", f"{_NETWORK}{_GATEWAY}"),
        *("--address", f"{_NETWORK6}{_ADDRESS}", "--gateway", f"{_NETWORK6}{_GATEWAY}"),
        *(word for address in uplink.answered for word in ("--dns-forward", address)),
    ]
    return (uplink.program, *_CLOSED, *who, *outer), (uplink.program, *_CLOSED, *who)


def resolver(text: str) -> tuple[str, tuple[str, ...]]:
    """The host's resolv.conf as it is to be inside, and which addresses in it pasta has to answer for.

    A server on the host's loopback is asked through pasta, by an address of ours. pasta asks the first server of that
    kind of address then, and 2023's takes all answers of that server for ours, so the first goes by our address too.
    Without any server in the file, there is one on the loopback (resolv.conf(5)).
    """
    lines = text.splitlines()
    servers = [words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and len(words) > 1]
    if not servers:
        servers, lines = ["127.0.0.1"], [*lines, "nameserver 127.0.0.1"]
    given: dict[str, str] = {}  # our addresses, by the servers that they stand for
    for ours, kind in ((f"{_NETWORK}{_NAMES}", IPv4Address), (f"{_NETWORK6}{_NAMES}", IPv6Address)):
        known = [server for server in servers if isinstance(_address(server), kind)]
        local = [server for server in known if _on_loopback(server)]
        given |= dict.fromkeys([*known[:1], *local] if local else (), ours)
    seen: list[str] = []
    for line in lines:
        words = line.split()
        named = words[:1] == ["nameserver"] and len(words) > 1
        # The name of the host's interface in a link-local address means nothing inside.
        server = given.get(words[1]) or re.sub("%.*", f"%{_LINK}", words[1]) if named else ""
        seen.append(f"nameserver {server}" if named else line)
    return "\n".join(dict.fromkeys(seen)) + "\n", tuple(dict.fromkeys(given.values()))


def _address(server: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(server.partition("%")[0])
    except ValueError:
        return None


def _on_loopback(server: str) -> bool:
    address = _address(server)
    return address is not None and (address.is_loopback or address.is_unspecified)
