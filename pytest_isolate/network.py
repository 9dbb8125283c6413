"""A sandbox's own network, as operations of a Plan: loopback up, all ports free, names that are found. Pure."""

from __future__ import annotations

from pytest_isolate.plan import MountFlag, Op, Step

#: Slot in which /proc/sys is kept open while it becomes read-only.
_SLOT = 0


def hold(proc: str) -> list[Op]:
    """Keep the settings in ``proc`` open, a /proc mounted read-write.

    It must be /proc/sys itself: below it, a directory belongs to the network namespace in which its name was looked up
    (fs/proc/proc_sysctl.c), so that /proc/sys/net/ipv4 opened now would be the host's for good. (Tried: it changed the
    host's settings.)
    """
    return [Op(Step.HOLD, _SLOT, b=f"{proc}/sys")]


def own(*, groups: tuple[int, int], held: bool) -> list[Op]:
    """Make the new network namespace of PID 1 usable: ip(7), "ip_unprivileged_port_start"; icmp(7), "ping_group_range".

    :param groups: lowest and highest group id that is mapped inside, all of which may ping.
    :param held: :func:`hold` has run.
    """
    ops = [Op(Step.LOOPBACK)]
    if held:
        ops.append(Op(Step.WRITE, 1 + _SLOT, "0", "net/ipv4/ip_unprivileged_port_start"))
        ops.append(Op(Step.WRITE, 1 + _SLOT, f"{groups[0]} {groups[1]}", "net/ipv4/ping_group_range"))
    return ops


def names(etc: str, file: str) -> list[Op]:
    """Put an empty file in the place of /etc/hosts, to be filled once it is known who is on the bridge.

    :param etc: the sandbox's /etc.
    :param file: in its scratch space, which the keeper can reach from outside.
    """
    hosts = f"{etc}/hosts"
    return [
        Op(Step.TOUCH, 0o644, b=file),
        Op(Step.MKDIR, 0o755, b=etc),  # an image may have neither
        Op(Step.TOUCH, 0o644, b=hosts),
        Op(Step.MOUNT, MountFlag.BIND, file, hosts),
    ]


def resolver(etc: str, text: str, file: str, place: str | None) -> list[Op]:
    """Put ``text`` in the place of /etc/resolv.conf.

    :param etc: the sandbox's /etc.
    :param file: in its scratch space.
    :param place: the file as it will be seen inside, no link; None: whatever /etc has, which is ours to change.
    """
    ops = [Op(Step.TOUCH, 0o644, b=file), Op(Step.WRITE, a=text, b=file)]
    if place is None:
        place = f"{etc}/resolv.conf"
        ops += [Op(Step.MKDIR, 0o755, b=etc), Op(Step.PLAIN, 0o644, b=place)]
    return [*ops, Op(Step.MOUNT, MountFlag.BIND, file, place)]
