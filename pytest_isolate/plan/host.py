"""What this host allows: plain facts, which :mod:`pytest_isolate.sandbox.probe.probe` finds out by trying."""

from __future__ import annotations

from socket import AddressFamily
from typing import Literal, NamedTuple

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.host_tree import HostTree
from pytest_isolate.plan.own_name import HostsFile
from pytest_isolate.spec.errors import SetupError

#: Namespaces that a sandbox stands on.
ESSENTIAL = Clone.NEWUSER | Clone.NEWPID | Clone.NEWNS
#: Namespaces that it can be built without, if need be: the network and the others are the host's then.
USUAL = Clone.NEWNET | Clone.NEWUTS | Clone.NEWIPC
#: Namespaces that only some kernels have.
OPTIONAL = Clone.NEWCGROUP | Clone.NEWTIME
Feature = Literal[
    "userns", "pidns", "mountns", "netns", "utsns", "ipcns", "mounts", "overlay", "tmpfs", "fresh_proc", "tree"
]
NAMES: dict[Clone, Feature] = {
    Clone.NEWUSER: "userns",
    Clone.NEWPID: "pidns",
    Clone.NEWNS: "mountns",
    Clone.NEWNET: "netns",
    Clone.NEWUTS: "utsns",
    Clone.NEWIPC: "ipcns",
}


class Lack(NamedTuple):
    """Something that was tried and does not work here."""

    what: Feature
    step: str  #: what was tried, in words
    target: str  #: on what
    errno: int = 0
    remedy: str = ""

    @property
    def reason(self) -> str:
        """``cannot mount proc on /proc: EPERM (Operation not permitted)``."""
        return SetupError(self.step, self.target, self.errno).reason


class Host(NamedTuple):
    """Facts that do not change while a session runs."""

    uid: int
    gid: int
    real_root: bool  #: mounts of this namespace are ours to handle, and all ids can be mapped
    namespaces: Clone  #: those that can be made
    tree: HostTree
    uid_map: str = ""  #: ids that are known here, as in /proc/self/uid_map
    gid_map: str = ""
    overlay: bool = True  #: writable layers work
    scratch: str = ""  #: directory on disk for the layers; "" if a tmpfs can hold them
    fresh_proc: bool = True  #: a new /proc can be mounted
    fresh_sys: bool = True  #: a new /sys can be mounted
    hosts: HostsFile | None = None  #: /etc/hosts, if it can be copied
    families: frozenset[AddressFamily] = frozenset()  #: of which there is an address, as getaddrinfo(3) counts them
    process: int = 0  #: the number of the process that forks tests
    lacks: tuple[Lack, ...] = ()

    @property
    def sandbox(self) -> bool:
        """Whether a sandbox can be built at all."""
        return self.overlay and self.namespaces & ESSENTIAL == ESSENTIAL

    def lack(self, *features: Feature) -> Lack | None:
        """The first of ``lacks`` that is about one of ``features``."""
        return next((lack for lack in self.lacks if lack.what in features), None)

    def id_maps(self, *, root_inside: bool = False) -> tuple[str, str]:
        """Contents of a sandbox's uid_map and gid_map: all ids where this process may map them, else its own."""
        if self.real_root:
            return identity(self.uid_map), identity(self.gid_map)
        return self.own_id_maps(root_inside=root_inside)

    def own_id_maps(self, *, root_inside: bool = False) -> tuple[str, str]:
        """The same for this process's own user and group alone, which need no right.

        :param root_inside: they are 0 inside, else themselves.
        """
        uid, gid = (0, 0) if root_inside else (self.uid, self.gid)
        return f"{uid} {self.uid} 1", f"{gid} {self.gid} 1"

    def capabilities(self) -> frozenset[str]:
        """Names of what works, for tests that need it."""
        known = {name: bool(self.namespaces & flag) for flag, name in NAMES.items()} | {
            "timens": bool(self.namespaces & Clone.NEWTIME),
            "cgroupns": bool(self.namespaces & Clone.NEWCGROUP),
            "overlay": self.overlay,
            "tmpfs_xattr": self.overlay and not self.scratch,
            "fresh_proc": self.fresh_proc,
            "fresh_sys": self.fresh_sys,
            "real_root": self.real_root,
        }
        return frozenset(name for name, works in known.items() if works)

    def describe(self) -> str:
        """For pytest's header: ``rootless, overlay on /``."""
        if not self.sandbox:
            return "no sandbox"
        layers = f"overlay on / in {self.scratch}" if self.scratch else "overlay on /"
        return f"{'root' if self.real_root else 'rootless'}, {layers}"


def identity(extents: str) -> str:
    """The map under which every id of ``/proc/self/uid_map`` is itself inside."""
    return "".join(f"{first} {first} {count}\n" for first, _, count in (line.split() for line in extents.splitlines()))


def group_range(extents: str) -> tuple[int, int]:
    """Lowest and highest group id that is mapped inside without a gap, as far as ping_group_range can name them."""
    lines = [tuple(map(int, line.split())) for line in extents.splitlines()]
    first, _, count = min(lines)
    return first, min(first + count - 1, 2**31 - 1)
