"""The operations that a Plan is made of, each by the function that makes it.

Operations run one after another in the sandbox's PID 1 (``_native/init.c``). How their numbers are packed is known
here and in C (``_native/plan.h``), and nowhere else. To be imported as ``do``: ``do.mkdir(path, 0o755)``.

PID 1 first turns the file system round (:func:`stage`), so that

- ``/old`` is the host's whole tree as seen outside,
- ``/s`` is the scratch space of this sandbox (a tmpfs, or a directory on disk) that holds upper and work directories,
- ``/new`` is the root under construction, which :func:`pivot` makes ``/``.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from enum import IntEnum
from socket import AF_INET, AF_INET6, AddressFamily
from typing import NamedTuple

from pytest_isolate.linux.flags import Clone, MountFlag

OLD = "/old"


class Step(IntEnum):
    """What one operation does; the numbers are shared with ``_native/plan.h``."""

    STAGE = 1
    MOUNT = 2
    MKDIR = 3
    SYMLINK = 4
    TOUCH = 5
    COPY = 6
    WRITE = 7
    PIVOT = 8
    UNSHARE = 9
    LOOPBACK = 10
    HOSTNAME = 11
    READONLY = 12
    RMDIR_PROBE = 13
    HOLD = 14
    CHMOD = 15
    CHOWN = 16
    PLAIN = 17
    DEVICE = 18
    FREEZE = 19
    PASS_NUMBERS = 20


class Op(NamedTuple):
    """One operation; what it has of the fields depends on the step."""

    step: Step
    number: int = 0
    source: str = ""  #: path or text that it takes
    target: str = ""  #: path that it changes
    kind: str = ""  #: of a file system
    data: str = ""  #: options of a file system

    def encode(self) -> bytes:
        """As ``_native/plan_decode.c`` reads it: step, number, then the four strings."""
        return struct.pack("=IQ", self.step, self.number) + b"".join(
            map(encode_text, (self.source, self.target, self.kind, self.data))
        )


def encode_text(text: str) -> bytes:
    """A string of a Plan as ``_native/plan_decode.c`` reads it: its length, its bytes and a closing NUL."""
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("=I", len(raw)) + raw + b"\0"


def stage(size: int | str) -> Op:
    """Make all mounts private, build ``/old /s /new`` on a tmpfs and pivot into it.

    :param size: most bytes in ``/s`` where that is a tmpfs, as tmpfs(5) writes them.
    """
    return Op(Step.STAGE, source=f"size={size},mode=755")


def pivot(target: str) -> Op:
    """Make ``target`` the root and detach the old one."""
    return Op(Step.PIVOT, target=target)


def mount(source: str, target: str, kind: str, flags: MountFlag = MountFlag(0), data: str = "") -> Op:
    """mount(2) of a new file system of ``kind``."""
    return Op(Step.MOUNT, flags, source, target, kind, data)


def bind(source: str, target: str, *, recursive: bool = False) -> Op:
    """Show ``source`` at ``target`` too, with ``recursive`` all that is mounted below it as well."""
    return Op(Step.MOUNT, MountFlag.BIND | MountFlag.REC if recursive else MountFlag.BIND, source, target)


def device(source: str, target: str, *, own: bool) -> Op:
    """Show the device that ``source`` is, so that nobody inside can change mode, owner or times of the host's node.

    :param own: make a node of the sandbox's own, if that is allowed here; else the host's is bound, read-only, which
        concerns the node alone and not what is written to the device.
    """
    return Op(Step.DEVICE, own, source, target)


def read_only(target: str) -> Op:
    """Make the mount at ``target`` and all below it read-only (mount_setattr(2), else remount one by one)."""
    return Op(Step.READONLY, target=target)


def freeze(target: str, names: Iterable[str]) -> Op:
    """Make each entry of ``target`` among ``names`` and all below it read-only, but not ``target`` itself.

    What is bound to itself has a mount, whose flags can be set (mount(2)); one that has gone meanwhile is left out.
    """
    return Op(Step.FREEZE, source="/".join(sorted(names)), target=target)


def mkdir(path: str, mode: int = 0o755) -> Op:
    """Make a directory (the umask is 0); one that is there stays as it is."""
    return Op(Step.MKDIR, mode, target=path)


def symlink(content: str, path: str) -> Op:
    """Make a symbolic link."""
    return Op(Step.SYMLINK, source=content, target=path)


def touch(path: str, mode: int = 0o644) -> Op:
    """Make an empty regular file; one that is there stays as it is."""
    return Op(Step.TOUCH, mode, target=path)


def touch_plain(path: str, mode: int = 0o644) -> Op:
    """As :func:`touch`, but replace a symbolic link."""
    return Op(Step.PLAIN, mode, target=path)


def copy(source: str, target: str, mode: int | None = None, *, more: str = "") -> Op:
    """Copy a regular file, if it is there; its mode becomes ``mode``, or stays its own.

    :param more: text to put at the end of the copy, whose times are those of the original all the same.
    """
    return Op(Step.COPY, 0 if mode is None else 1 + mode, source, target, data=more)


def write(text: str, path: str, *, slot: int | None = None) -> Op:
    """Write ``text`` to an existing file in one write(2).

    :param slot: of a directory that is held (:func:`hold`), which ``path`` is relative to.
    """
    return Op(Step.WRITE, 0 if slot is None else 1 + slot, text, path)


def hold(directory: str, slot: int) -> Op:
    """Keep ``directory`` open as ``slot`` (0 to 3), for :func:`write` after the mounts have changed."""
    return Op(Step.HOLD, slot, target=directory)


def chmod(path: str, mode: int) -> Op:
    """chmod(2)."""
    return Op(Step.CHMOD, mode, target=path)


def chown(path: str, uid: int, gid: int) -> Op:
    """chown(2)."""
    return Op(Step.CHOWN, uid << 32 | gid, target=path)


def unshare(namespaces: Clone) -> Op:
    """unshare(2); the builder writes the id maps if a user namespace is among them."""
    return Op(Step.UNSHARE, namespaces)


def loopback(*, more: Collection[AddressFamily] = ()) -> Op:
    """Bring ``lo`` up.

    :param more: families of which it gets an address beside 127.0.0.1 and ::1, if the kernel has them.
    """
    return Op(Step.LOOPBACK, (AF_INET in more) | (AF_INET6 in more) << 1)


def hostname(name: str) -> Op:
    """sethostname(2)."""
    return Op(Step.HOSTNAME, source=name)


def pass_numbers(count: int) -> Op:
    """Leave out so many numbers of processes: the first that is to run there gets the one after them."""
    return Op(Step.PASS_NUMBERS, count)


def replace_directory(path: str) -> Op:
    """Host probe only: replace the lower directory ``path`` (rmdir, mkdir), which needs an opaque attribute."""
    return Op(Step.RMDIR_PROBE, target=path)
