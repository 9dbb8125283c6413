"""A sandbox's own network, as operations of a Plan: loopback up, all ports free, names that are found. Pure."""

from __future__ import annotations

from collections.abc import Collection
from socket import AddressFamily

from pytest_isolate.plan import operations as do
from pytest_isolate.plan.operations import Op

#: Slot in which /proc/sys is kept open while it becomes read-only.
_SLOT = 0


def hold(proc: str) -> list[Op]:
    """Keep the settings in ``proc`` open, a /proc mounted read-write.

    It must be /proc/sys itself: below it, a directory belongs to the network namespace in which its name was looked up
    (fs/proc/proc_sysctl.c), so that /proc/sys/net/ipv4 opened now would be the host's for good. (Tried: it changed the
    host's settings.)
    """
    return [do.hold(f"{proc}/sys", _SLOT)]


def own(*, groups: tuple[int, int], held: bool, families: Collection[AddressFamily] = ()) -> list[Op]:
    """Make the new network namespace of PID 1 usable: ip(7), "ip_unprivileged_port_start"; icmp(7), "ping_group_range".

    :param families: those of which getaddrinfo(3) takes the host to have an address. It does not count 127.0.0.1 and
        ::1, and with ``AI_ADDRCONFIG`` finds nothing of a family without another, not even ``localhost``.
    :param groups: lowest and highest group id that is mapped inside; all of them may ping.
    :param held: :func:`hold` has run.
    """
    ops = [do.loopback(more=families)]
    if held:
        ops.append(do.write("0", "net/ipv4/ip_unprivileged_port_start", slot=_SLOT))
        ops.append(do.write(f"{groups[0]} {groups[1]}", "net/ipv4/ping_group_range", slot=_SLOT))
    return ops


def names(etc: str, file: str) -> list[Op]:
    """Put an empty file in the place of /etc/hosts; the keeper fills it once it knows what is on the bridge.

    :param etc: the sandbox's /etc.
    :param file: in its scratch space, which the keeper can reach from outside.
    """
    hosts = f"{etc}/hosts"
    return [
        do.touch(file),
        do.mkdir(etc),  # an image may have neither
        do.touch(hosts),
        do.bind(file, hosts),
    ]


def resolver(etc: str, text: str, file: str, path: str | None) -> list[Op]:
    """Put ``text`` in the place of /etc/resolv.conf.

    :param etc: the sandbox's /etc.
    :param file: in its scratch space.
    :param path: the file as it will be seen inside, no link; None: whatever /etc has, which is ours to change.
    """
    ops = [do.touch(file), do.write(text, file)]
    if path is None:
        path = f"{etc}/resolv.conf"
        ops += [do.mkdir(etc), do.touch_plain(path)]
    return [*ops, do.bind(file, path)]
