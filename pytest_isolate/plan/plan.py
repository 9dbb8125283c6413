"""A Plan: everything that the C core has to do to build a sandbox, as plain data.

A Plan is computed once per Spec and host and executed many times; nothing is decided while executing it. Its operations
are those of :mod:`pytest_isolate.plan.operations`; the wire form is in :func:`Plan.encode`, its reader in
``_native/plan_decode.c``.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.operations import Op, encode_text


class CgroupDir(NamedTuple):
    """One directory to make per sandbox, in one hierarchy.

    ``parent`` is the worker's group, an absolute path; the builder makes ``parent/NAME`` and writes ``files`` in order.
    A file whose name starts with ``?`` may be missing. ``attach`` is the file that a process enters by
    (``cgroup.procs``).
    """

    parent: str
    files: tuple[tuple[str, str], ...] = ()
    attach: str = "cgroup.procs"
    shared: bool = False  #: ``parent`` itself is entered, a group that many sandboxes are in and that is there already


class WritableLayer(NamedTuple):
    """A writable layer, for the list of changed files: ``upper`` within ``/s``, what it covers, and where it appears.

    ``seen`` is the path inside the sandbox and, since the host's tree keeps its paths, of the lower directory too.
    """

    upper: str
    seen: str
    #: of an image: the directories that it covers instead, the topmost first, absolute or within ``/s``
    lowers: tuple[str, ...] = ()
    #: made entry by entry, not by overlayfs: owners and modes differ from the host's by themselves
    skeleton: bool = False


class _PlanFields(NamedTuple):
    # Apart, as only a subclass of a named tuple has the __dict__ that cached_property takes.
    namespaces: Clone  #: namespaces that PID 1 is cloned into
    uid_map: str = ""  #: content for /proc/PID/uid_map, "" when no user namespace is made
    gid_map: str = ""
    ops: tuple[Op, ...] = ()
    cgroups: tuple[CgroupDir, ...] = ()
    scratch: str = ""  #: directory on disk under which each sandbox gets its own /s; "" for a tmpfs
    layers: tuple[WritableLayer, ...] = ()
    longer: tuple[tuple[str, int], ...] = ()  #: a file of the host's that so many bytes are added to
    join: Clone = Clone(0)  #: namespaces that the test's process joins by setns before it is forked
    join_late: Clone = Clone(0)  #: those it joins after the fork (time)
    unshare_late: Clone = Clone(0)  #: those it makes itself, once in its cgroup (cgroup)
    capabilities: int = 0  #: bit mask of the capabilities it keeps, in its own user namespace
    no_new_privs: bool = True
    seccomp: bool = True
    env: tuple[tuple[str, str], ...] = ()  #: variables that the image sets
    moved: tuple[tuple[str, str], ...] = ()  #: directories of Python modules, and where they are inside
    #: programs that connect it to the outside, from the host inwards (``_native/pasta.c``); each finds the network
    #: namespace to be connected as its standard input, and writes to standard output once it has done so
    uplink: tuple[tuple[str, ...], ...] = ()
    libraries: tuple[str, ...] = ()  #: directories inside that have the host's shared objects, if the root is an image


class Plan(_PlanFields):
    """What to build for one Spec on one host, and how the test's process enters it."""

    def joins(self, namespace: Clone) -> bool:
        """Whether the test's process joins it. (``&`` of two enum members is ten times slower)."""
        return bool(int(self.join) & int(namespace))

    @cached_property
    def host_layers(self) -> bytes:
        """The layers over the host's own tree, not an image's, as ``isolate_changes`` reads them."""
        of_host = [layer for layer in self.layers if not layer.lowers]
        texts = [f"l{size}\0{path}\0" for path, size in self.longer]
        texts += [f"{'s' if layer.skeleton else 'o'}{layer.upper}\0{layer.seen}\0" for layer in of_host]
        return "".join(texts).encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """The part that the builder executes; the rest is for the process that enters."""
        text = encode_text
        parts = [struct.pack("=Q", self.namespaces), text(self.uid_map), text(self.gid_map), text(self.scratch)]
        parts.append(struct.pack("=I", len(self.cgroups)))
        for group in self.cgroups:
            parts += [text(group.parent), text(group.attach), struct.pack("=II", group.shared, len(group.files))]
            parts += [text(part) for pair in group.files for part in pair]
        parts.append(struct.pack("=I", len(self.ops)))
        parts += [op.encode() for op in self.ops]
        parts.append(struct.pack("=I", len(self.uplink)))
        for words in self.uplink:
            parts += [struct.pack("=I", len(words)), *map(text, words)]
        return b"".join(parts)
