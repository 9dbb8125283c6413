"""A Plan: everything that the C core has to do to build a sandbox, as plain data.

A Plan is computed once per Spec and host and executed many times; nothing is decided while executing it. Operations run
one after another in the sandbox's PID 1 (``_native/init.c``); the wire form is in :func:`Plan.encode`, its reader in
``_native/plan.c``.

Paths within operations: PID 1 first turns the file system round (``Step.STAGE``), so that

- ``/old`` is the host's whole tree as seen outside,
- ``/s`` is the scratch space of this sandbox (a tmpfs, or a directory on disk) that holds upper and work directories,
- ``/new`` is the root under construction, which ``Step.PIVOT`` makes ``/``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property


class Step(IntEnum):
    """What one operation does; the numbers are shared with ``_native/plan.h``."""

    #: make all mounts private, build ``/old /s /new`` on a tmpfs and pivot into it; a = tmpfs options of /s or
    #: "" for disk
    STAGE = 1
    MOUNT = 2  #: mount(2): a = source, b = target, c = type, d = data, number = MS_ flags
    MKDIR = 3  #: b = path, number = mode (the umask is 0)
    SYMLINK = 4  #: a = content, b = path
    TOUCH = 5  #: b = path of an empty regular file, number = mode; one that is there stays as it is
    COPY = 6  #: copy the regular file a to b, if it is there; number = 1 + mode, or 0 for its own
    #: write the text a to the existing file b in one write(2); number = 1 + slot of a held directory that b is
    #: relative to, or 0
    WRITE = 7
    PIVOT = 8  #: make b the root and detach the old one
    UNSHARE = 9  #: unshare(2) of number; the builder writes the id maps if CLONE_NEWUSER is in it
    LOOPBACK = 10  #: bring ``lo`` up
    HOSTNAME = 11  #: a = host name
    READONLY = 12  #: make the mount at b and all below it read-only (mount_setattr, else remount one by one)
    RMDIR_PROBE = 13  #: host probe only: replace the lower directory b (rmdir, mkdir), which needs an opaque attribute
    HOLD = 14  #: keep directory b open as slot ``number`` (0 to 3), for WRITE after the mounts have changed
    CHMOD = 15  #: chmod b to number
    CHOWN = 16  #: chown b to the user number >> 32 and the group number & 0xffffffff
    PLAIN = 17  #: as TOUCH, but a symbolic link at b is replaced


class Clone(IntFlag):
    """Namespaces, by clone(2)'s names."""

    NEWTIME = 0x00000080
    NEWNS = 0x00020000
    NEWCGROUP = 0x02000000
    NEWUTS = 0x04000000
    NEWIPC = 0x08000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000


class MountFlag(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    BIND = 4096
    REC = 16384
    PRIVATE = 1 << 18


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: a step, a number, and up to four strings, whose meaning depends on the step."""

    step: Step
    number: int = 0
    a: str = ""
    b: str = ""
    c: str = ""
    d: str = ""

    def encode(self) -> bytes:
        """As ``_native/plan.c`` reads it: step, number, then each string with its length and a closing NUL."""
        texts = [text.encode("utf-8", "surrogateescape") for text in (self.a, self.b, self.c, self.d)]
        return struct.pack("=IQ", self.step, self.number) + b"".join(
            struct.pack("=I", len(text)) + text + b"\0" for text in texts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupDir:
    """One directory to make per sandbox, in one hierarchy.

    ``parent`` is the worker's group, an absolute path; the builder makes ``parent/NAME`` and writes ``files`` in order.
    A file whose name starts with ``?`` may be missing. ``attach`` is the file that a process enters by
    (``cgroup.procs``).
    """

    parent: str
    files: tuple[tuple[str, str], ...] = ()
    attach: str = "cgroup.procs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A writable layer, for the list of changed files: ``upper`` within ``/s``, what it covers, and where it appears.

    ``seen`` is the path inside the sandbox and, since the host's tree keeps its paths, of the lower directory too.
    """

    upper: str
    seen: str
    #: of an image: the directories that it covers instead, the topmost first, absolute or within ``/s``
    lowers: tuple[str, ...] = ()
    #: made entry by entry, not by overlayfs: owners and modes differ from the host's by themselves
    skeleton: bool = False


@dataclass(frozen=True, kw_only=True)  # without slots, for cached_property
class Plan:
    """What to build for one Spec on one host, and how the test's process enters it."""

    namespaces: Clone  #: namespaces that PID 1 is cloned into
    uid_map: str = ""  #: content for /proc/PID/uid_map, "" when no user namespace is made
    gid_map: str = ""
    ops: tuple[Op, ...] = ()
    cgroups: tuple[CgroupDir, ...] = ()
    scratch: str = ""  #: directory on disk under which each sandbox gets its own /s; "" for a tmpfs
    layers: tuple[Layer, ...] = ()
    join: Clone = Clone(0)  #: namespaces that the test's process joins by setns before it is forked
    join_late: Clone = Clone(0)  #: those it joins after the fork (time)
    unshare_late: Clone = Clone(0)  #: those it makes itself, once in its cgroup (cgroup)
    capabilities: int = 0  #: bit mask of the capabilities it keeps, in its own user namespace
    no_new_privs: bool = True
    seccomp: bool = True
    env: tuple[tuple[str, str], ...] = ()  #: variables that the image sets
    moved: tuple[tuple[str, str], ...] = ()  #: directories of Python modules, and where they are inside
    #: programs that connect it to the outside, from the host inwards (``_native/uplink.c``); each finds the network
    #: namespace to be connected as its standard input, and writes to standard output once it has done so
    uplink: tuple[tuple[str, ...], ...] = ()
    libraries: tuple[str, ...] = ()  #: directories inside that have the host's shared objects, if the root is an image

    def joins(self, namespace: Clone) -> bool:
        """Whether the test's process joins it. (``&`` of two enum members is ten times slower)."""
        return bool(int(self.join) & int(namespace))

    @cached_property
    def host_layers(self) -> bytes:
        """The layers over the host's own tree, not an image's, as ``isolate_changes`` reads them."""
        of_host = [layer for layer in self.layers if not layer.lowers]
        texts = [f"{'s' if layer.skeleton else 'o'}{layer.upper}\0{layer.seen}\0" for layer in of_host]
        return "".join(texts).encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """The part that the builder executes; the rest is for the process that enters."""

        def text(value: str) -> bytes:
            raw = value.encode("utf-8", "surrogateescape")
            return struct.pack("=I", len(raw)) + raw + b"\0"

        parts = [struct.pack("=Q", self.namespaces), text(self.uid_map), text(self.gid_map), text(self.scratch)]
        parts.append(struct.pack("=I", len(self.cgroups)))
        for group in self.cgroups:
            parts += [text(group.parent), text(group.attach), struct.pack("=I", len(group.files))]
            parts += [text(part) for pair in group.files for part in pair]
        parts.append(struct.pack("=I", len(self.ops)))
        parts += [op.encode() for op in self.ops]
        parts.append(struct.pack("=I", len(self.uplink)))
        for words in self.uplink:
            parts += [struct.pack("=I", len(words)), *map(text, words)]
        return b"".join(parts)
