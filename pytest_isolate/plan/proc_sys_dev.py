"""The file systems that show the kernel: a sandbox's own /proc, /sys and /dev, as operations of a Plan. Pure."""

from __future__ import annotations

from collections.abc import Collection

from pytest_isolate.linux.flags import MountFlag
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.rootfs import NEW

_INERT = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC
_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def proc(*, fresh: bool, machine: Collection[str]) -> list[Op]:
    """/proc of the sandbox's own processes.

    :param fresh: mount a new one; else the host's is shown (where the kernel finds a new one "too revealing").
    :param machine: entries in /proc that are the machine's, where PID 1's ids are the host's: root may write to some
        by mere permission, and change mode and owner of all but "sys" for each /proc there is (the kernel keeps them
        once, in proc_dir_entry). They become read-only; what processes have in /proc stays as it is.
    """
    target = f"{NEW}/proc"
    op = do.mount("proc", target, "proc", _INERT) if fresh else do.bind(f"{OLD}/proc", target, recursive=True)
    return [op, *([do.freeze(target, machine)] if machine else [])]


def sys(*, fresh: bool, whole: bool) -> list[Op]:
    """/sys, read-only, without cgroups.

    :param fresh: mount a new one, which shows the devices of the network namespace of PID 1.
    :param whole: the host's mounts are ours to handle, so that /sys can be had without what is mounted below.
    """
    target = f"{NEW}/sys"
    if fresh:
        return [do.mount("sysfs", target, "sysfs", _INERT | MountFlag.RDONLY)]
    ops = [do.bind(f"{OLD}/sys", target, recursive=not whole)]
    if not whole:
        ops.append(do.mount("tmpfs", f"{target}/fs/cgroup", "tmpfs", _INERT, "size=4k,mode=755"))
    return [*ops, do.read_only(target)]


def dev(size: int | None, *, queues: bool, own_nodes: bool, second_proc: bool = False) -> list[Op]:
    """A /dev with the devices that are no hardware, terminals of its own, and shared memory.

    :param size: most bytes in /dev/shm; None: it is a layer over the host's, which comes later.
    :param queues: PID 1 has an IPC namespace of its own, whose message queues can be shown (mq_overview(7)).
    :param own_nodes: PID 1 may make device nodes.
    :param second_proc: mount a whole /proc beside the one with read-only entries. In a user namespace the kernel mounts
        a new one only where its mounts have one that nothing covers (mount_too_revealing, fs/namespace.c), reached or
        not. Nobody reaches it: what shared memory is mounted on is its parent, and cannot be uncovered inside.
    """
    target = f"{NEW}/dev"
    ops = [do.mount("tmpfs", target, "tmpfs", MountFlag.NOSUID | MountFlag.NOEXEC, "size=64k,mode=755")]
    ops += [do.device(f"{OLD}/dev/{name}", f"{target}/{name}", own=own_nodes) for name in _NODES]
    for name, content in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        ops.append(do.symlink(content, f"{target}/{name}"))
    ops += [do.mkdir(f"{target}/{name}") for name in ("pts", "shm", "mqueue")]
    if second_proc:
        ops += [do.mkdir(f"{target}/shm/proc"), do.mount("proc", f"{target}/shm/proc", "proc", _INERT)]
    terminals = MountFlag.NOSUID | MountFlag.NOEXEC
    memory = MountFlag.NOSUID | MountFlag.NODEV
    ops += [
        do.mount("devpts", f"{target}/pts", "devpts", terminals, "newinstance,ptmxmode=0666,mode=620"),
    ]
    if size is not None:
        ops.append(do.mount("tmpfs", f"{target}/shm", "tmpfs", memory, f"size={size},mode=1777"))
    if queues:
        ops.append(do.mount("mqueue", f"{target}/mqueue", "mqueue", _INERT))
    return ops


def session_sys(*, whole: bool) -> list[Op]:
    """/sys for pytest itself, with the cgroups, in which groups of tests are made; read-only where that is possible.

    :param whole: see :func:`sys`.
    """
    target, groups = f"{NEW}/sys", "fs/cgroup"
    if not whole:  # locked together, read-only would hold for the cgroups, too
        return [do.bind(f"{OLD}/sys", target, recursive=True)]
    return [
        do.bind(f"{OLD}/sys", target),
        do.read_only(target),
        do.bind(f"{OLD}/sys/{groups}", f"{target}/{groups}", recursive=True),
    ]


def session_dev(*, whole: bool, queues: bool) -> list[Op]:
    """/dev for pytest itself: the host's devices and terminals, but shared memory and message queues of its own.

    :param whole: there is a layer over it; else it is the host's itself, where only root can make files.
    :param queues: see :func:`dev`; and the host has the directory.
    """
    target = f"{NEW}/dev"
    ops = [do.bind(f"{OLD}/dev/pts", f"{target}/pts")] if whole else [do.bind(f"{OLD}/dev", target, recursive=True)]
    memory = MountFlag.NOSUID | MountFlag.NODEV
    ops.append(do.mount("tmpfs", f"{target}/shm", "tmpfs", memory, "mode=1777"))
    if queues:
        ops.append(do.mount("mqueue", f"{target}/mqueue", "mqueue", _INERT))
    return ops
