"""The file systems that show the kernel: a sandbox's own /proc, /sys and /dev, as operations of a Plan. Pure."""

from __future__ import annotations

from collections.abc import Collection

from pytest_isolate.plan import MountFlag, Op, Step
from pytest_isolate.rootfs import NEW, OLD

_BIND = MountFlag.BIND
_TREE = MountFlag.BIND | MountFlag.REC
_INERT = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC

#: What acts on the whole machine and is guarded by nothing but the file's owner, who is root: inside, too, where ids
#: map to themselves. The list is the OCI runtime specification's "readonlyPaths" and what else is writable on the
#: kernels that were tried.
_MACHINE = (
    *("acpi", "asound", "bus", "driver", "dynamic_debug", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger"),
    *("exitcode", "mconsole"),  # of User Mode Linux: the exit status of the machine, and its monitor
)
_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def proc(*, fresh: bool, protect: Collection[str]) -> list[Op]:
    """/proc of the sandbox's own processes.

    :param fresh: mount a new one; else the host's is shown (where the kernel finds a new one "too revealing").
    :param protect: names in /proc, of which those that act on the machine become read-only.
    """
    target = f"{NEW}/proc"
    if not fresh:
        return [Op(Step.MOUNT, _TREE, f"{OLD}/proc", target)]
    ops = [Op(Step.MOUNT, _INERT, "proc", target, "proc")]
    for name in sorted(set(_MACHINE) & set(protect)):
        ops += [Op(Step.MOUNT, _BIND, f"{target}/{name}", f"{target}/{name}"), Op(Step.READONLY, b=f"{target}/{name}")]
    return ops


def sys(*, fresh: bool, whole: bool) -> list[Op]:
    """/sys, read-only, without cgroups.

    :param fresh: mount a new one, which shows the devices of the network namespace of PID 1.
    :param whole: the host's mounts are ours to handle, so that /sys can be had without what is mounted below.
    """
    target = f"{NEW}/sys"
    if fresh:
        return [Op(Step.MOUNT, _INERT | MountFlag.RDONLY, "sysfs", target, "sysfs")]
    ops = [Op(Step.MOUNT, _BIND if whole else _TREE, f"{OLD}/sys", target)]
    if not whole:
        ops.append(Op(Step.MOUNT, _INERT, "tmpfs", f"{target}/fs/cgroup", "tmpfs", "size=4k,mode=755"))
    return [*ops, Op(Step.READONLY, b=target)]


def dev(size: int, *, queues: bool) -> list[Op]:
    """A /dev with the devices that are no hardware, terminals of its own, and shared memory.

    :param size: most bytes in /dev/shm.
    :param queues: PID 1 has an IPC namespace of its own, whose message queues can be shown (mq_overview(7)).
    """
    target = f"{NEW}/dev"
    ops = [Op(Step.MOUNT, MountFlag.NOSUID | MountFlag.NOEXEC, "tmpfs", target, "tmpfs", "size=64k,mode=755")]
    for name in _NODES:
        ops += [
            Op(Step.TOUCH, 0o666, b=f"{target}/{name}"),
            Op(Step.MOUNT, _BIND, f"{OLD}/dev/{name}", f"{target}/{name}"),
        ]
    for name, content in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        ops.append(Op(Step.SYMLINK, a=content, b=f"{target}/{name}"))
    ops += [Op(Step.MKDIR, 0o755, b=f"{target}/{name}") for name in ("pts", "shm", "mqueue")]
    terminals = MountFlag.NOSUID | MountFlag.NOEXEC
    memory = MountFlag.NOSUID | MountFlag.NODEV
    ops += [
        Op(Step.MOUNT, terminals, "devpts", f"{target}/pts", "devpts", "newinstance,ptmxmode=0666,mode=620"),
        Op(Step.MOUNT, memory, "tmpfs", f"{target}/shm", "tmpfs", f"size={size},mode=1777"),
    ]
    if queues:
        ops.append(Op(Step.MOUNT, _INERT, "mqueue", f"{target}/mqueue", "mqueue"))
    return ops
