"""An image's root as operations of a Plan. Pure; :mod:`~pytest_isolate.images.root.root_layout` finds the facts."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.flags import MountFlag
from pytest_isolate.plan import operations as do
from pytest_isolate.plan import own_name, rootfs
from pytest_isolate.plan.host_tree import Entry, HostTree
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.plan.rootfs import NEW, SCRATCH, View

#: Where the sandbox has what must not be in the image's way: in /dev, which is the sandbox's own.
ASIDE = "/dev/isolate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRoot:
    """Everything about an image that a Plan needs, as plain data."""

    layers: tuple[str, ...]  #: trees of the layers, the topmost first
    #: what a further layer on top holds to be mounted on, parents first; the content of a file is its ``target``
    points: tuple[Entry, ...]
    shown: tuple[tuple[str, str], ...]  #: read-only: path of the host, path inside
    copied: tuple[Entry, ...]  #: directories of the host that are shown copy-on-write, in their place
    aliases: tuple[tuple[str, str], ...]  #: those of ``copied`` that are known by a second path: first, second
    bound: tuple[tuple[str, str], ...]  #: the test's ``writable``: path of the host, path inside
    moved: tuple[tuple[str, str], ...]  #: directories of modules that are found elsewhere inside
    libraries: tuple[str, ...]  #: directories inside that have the host's shared objects
    env: tuple[tuple[str, str], ...]  #: variables to set
    mode: int  #: of ``/``
    owner: tuple[int, int]  #: of ``/``
    options: str  #: of the overlay, after its directories
    hosts: str  #: path of the one among ``points`` that is /etc/hosts; "" if there can be none
    tmpfs_memory: bool  #: its C library takes shared memory from a tmpfs only


_POINTS = f"{SCRATCH}/points"


def mount_image(image: ImageRoot, hostname: str = "") -> tuple[list[Op], WritableLayer]:
    """Mount the image: its layers, one on top with what must be mounted on, and a writable one.

    Layers are named by short links: mount(2) takes a page of options, and an image may have more than a hundred.

    :param hostname: a name to be given an address in /etc/hosts.
    """
    ops = [do.mkdir(_POINTS)]
    for entry in image.points:
        lines = own_name.lines_for(hostname, entry.target) if hostname and entry.path == image.hosts else ""
        ops += _make_point(entry._replace(target=entry.target + lines))
    ops += [do.symlink(OLD + path, f"{SCRATCH}/l{number}") for number, path in enumerate(image.layers)]
    ops.append(do.mkdir(f"{SCRATCH}/u0", image.mode))
    ops += _give_owner(f"{SCRATCH}/u0", image.owner, image.mode)
    ops.append(do.mkdir(f"{SCRATCH}/w0", 0o700))
    lowers = [_POINTS, *(f"{SCRATCH}/l{number}" for number in range(len(image.layers)))]
    data = overlayfs.directories(lowers, f"{SCRATCH}/u0", f"{SCRATCH}/w0") + image.options
    ops.append(do.mount("overlay", NEW, "overlay", MountFlag.NOSUID | MountFlag.NODEV, data))
    return ops, WritableLayer(upper="u0", seen="/", lowers=("points", *image.layers))


def _make_point(entry: Entry) -> list[Op]:
    path = _POINTS + entry.path
    if entry.kind == "directory":
        return [do.mkdir(path, entry.mode), *_give_owner(path, entry.owner, entry.mode)]
    ops = [do.touch(path, entry.mode), *_give_owner(path, entry.owner, entry.mode)]
    return [*ops, do.write(entry.target, path)] if entry.target else ops


def _give_owner(path: str, owner: tuple[int, int], mode: int) -> list[Op]:
    ops = [do.chown(path, *owner)] if owner != (0, 0) else []
    return [*ops, do.chmod(path, mode)] if mode & 0o7000 else ops


def show_host(image: ImageRoot) -> list[Op]:
    """What the host's interpreter needs, read-only; /dev must be mounted."""
    ops: list[Op] = []
    for source, at in image.shown:
        if at.startswith(ASIDE):
            names = at.split("/")
            ops += [do.mkdir(NEW + "/".join(names[:depth])) for depth in range(3, len(names) + 1)]
        ops += [do.bind(OLD + source, NEW + at, recursive=True), do.read_only(NEW + at)]
    return ops


def show_project(view: View, image: ImageRoot, tree: HostTree, *, rootless: bool, root_inside: bool) -> None:
    """What tests may write of the host's, copy-on-write; then what is bound through."""
    for entry in image.copied:
        rootfs.part(view, tree, entry, rootless=rootless, root_inside=root_inside)
    view.ops += [do.bind(NEW + path, NEW + at, recursive=True) for path, at in image.aliases]
    view.ops += [do.bind(OLD + source, NEW + at, recursive=True) for source, at in image.bound]
