"""An image's root as operations of a Plan. Pure; what it is made from is :mod:`~pytest_isolate.images.root`'s."""

from __future__ import annotations

from pytest_isolate import rootfs
from pytest_isolate.images.root import ASIDE, Root
from pytest_isolate.plan import Layer, MountFlag, Op, Step
from pytest_isolate.rootfs import NEW, OLD, SCRATCH, View
from pytest_isolate.tree import Entry, Tree

_POINTS = f"{SCRATCH}/points"


def root(image: Root) -> tuple[list[Op], Layer]:
    """Mount the image: its layers, one on top with what must be mounted on, and a writable one.

    Layers are named by short links: mount(2) takes a page of options, and an image may have more than a hundred.
    """
    ops = [Op(Step.MKDIR, 0o755, b=_POINTS)]
    for entry in image.points:
        ops += _point(entry)
    ops += [Op(Step.SYMLINK, a=OLD + path, b=f"{SCRATCH}/l{number}") for number, path in enumerate(image.layers)]
    ops.append(Op(Step.MKDIR, image.mode, b=f"{SCRATCH}/u0"))
    ops += _owned(f"{SCRATCH}/u0", image.owner, image.mode)
    ops.append(Op(Step.MKDIR, 0o700, b=f"{SCRATCH}/w0"))
    lowers = ":".join([_POINTS, *(f"{SCRATCH}/l{number}" for number in range(len(image.layers)))])
    data = f"lowerdir={lowers},upperdir={SCRATCH}/u0,workdir={SCRATCH}/w0{image.options}"
    ops.append(Op(Step.MOUNT, MountFlag.NOSUID | MountFlag.NODEV, "overlay", NEW, "overlay", data))
    return ops, Layer(upper="u0", seen="/", lowers=("points", *image.layers))


def _point(entry: Entry) -> list[Op]:
    path = _POINTS + entry.path
    if entry.kind == "directory":
        return [Op(Step.MKDIR, entry.mode, b=path), *_owned(path, entry.owner, entry.mode)]
    ops = [Op(Step.TOUCH, entry.mode, b=path), *_owned(path, entry.owner, entry.mode)]
    return [*ops, Op(Step.WRITE, 0, entry.target, path)] if entry.target else ops


def _owned(path: str, owner: tuple[int, int], mode: int) -> list[Op]:
    ops = [Op(Step.CHOWN, owner[0] << 32 | owner[1], b=path)] if owner != (0, 0) else []
    return [*ops, Op(Step.CHMOD, mode, b=path)] if mode & 0o7000 else ops


def shown(image: Root) -> list[Op]:
    """What the host's interpreter needs, read-only; /dev must be mounted."""
    ops: list[Op] = []
    for source, at in image.shown:
        if at.startswith(ASIDE):
            names = at.split("/")
            ops += [Op(Step.MKDIR, 0o755, b=NEW + "/".join(names[:depth])) for depth in range(3, len(names) + 1)]
        ops.append(Op(Step.MOUNT, MountFlag.BIND | MountFlag.REC, OLD + source, NEW + at))
        ops.append(Op(Step.READONLY, b=NEW + at))
    return ops


def project(view: View, image: Root, tree: Tree, *, rootless: bool, root_inside: bool) -> None:
    """What tests may write of the host's, copy-on-write; then what is bound through."""
    for entry in image.copied:
        rootfs.part(view, tree, entry, rootless=rootless, root_inside=root_inside)
    for path, at in image.aliases:
        view.add(Step.MOUNT, NEW + at, source=NEW + path, number=MountFlag.BIND | MountFlag.REC)
    for source, at in image.bound:
        view.add(Step.MOUNT, NEW + at, source=OLD + source, number=MountFlag.BIND | MountFlag.REC)
