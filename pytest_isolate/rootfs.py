"""The writable view of the host's tree: which overlays to mount where, as operations of a Plan. Pure.

Each writable layer has its upper and work directory in the sandbox's scratch space (``/s``) and the host's own tree,
which PID 1 finds at ``/old``, as its lower one. Two layouts:

- :func:`whole`, where the host's mounts are ours to handle: one overlay of ``/``, and one per further file system,
  because an overlay does not cross mount points (Documentation/filesystems/overlayfs.rst, "Upper and Lower").
- :func:`piecewise`, in a mount namespace that belongs to a user namespace: the kernel refuses an overlay of a directory
  with a mount below it, as those mounts are locked together (mount_namespaces(7), "Restrictions on mount namespaces";
  the fix of CVE-2021-3732). So a skeleton of plain directories is made where there are mounts below, and each directory
  within that has none becomes an overlay.

Nothing may be looked up through a new overlay but mount points: what was looked up once stays in the dentry cache, and
would hide what a session's fixtures change in the lower tree before the test starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_isolate.mounts import IMAGES, Mount, below
from pytest_isolate.plan import Layer, MountFlag, Op, Step
from pytest_isolate.tree import KERNEL, SMALL, Entry, Tree

OLD = "/old"
NEW = "/new"
SCRATCH = "/s"

_SAFE = MountFlag.NOSUID | MountFlag.NODEV


@dataclass(slots=True)
class View:
    """The operations so far, and the layers that they make."""

    options: str  #: of each overlay, after its directories
    ops: list[Op] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def add(
        self, step: Step, target: str, *, source: str = "", number: int = 0, kind: str = "", data: str = ""
    ) -> None:
        """Append one operation."""
        self.ops.append(Op(step, number, source, target, kind, data))

    def overlay(
        self, path: str, mode: int, flags: MountFlag = MountFlag(0), owner: tuple[int, int] | None = None
    ) -> None:
        """A writable layer over ``path``; ``mode`` and ``owner`` are those of its root, the upper directory."""
        number = len(self.layers)
        upper, work = f"u{number}", f"w{number}"
        self.add(Step.MKDIR, f"{SCRATCH}/{upper}", number=mode)
        if owner and owner != (0, 0):
            self.add(Step.CHOWN, f"{SCRATCH}/{upper}", number=owner[0] << 32 | owner[1])
        if mode & 0o6000:  # which mkdir(2) does not set
            self.add(Step.CHMOD, f"{SCRATCH}/{upper}", number=mode)
        self.add(Step.MKDIR, f"{SCRATCH}/{work}", number=0o700)
        data = f"lowerdir={quoted(OLD + path)},upperdir={SCRATCH}/{upper},workdir={SCRATCH}/{work}{self.options}"
        self.add(Step.MOUNT, NEW + path, source="overlay", kind="overlay", data=data, number=_SAFE | flags)
        self.layers.append(Layer(upper=upper, seen=path))

    def read_only(self, path: str) -> None:
        """The host's own tree at ``path``, not to be written."""
        self.add(Step.MOUNT, NEW + path, source=OLD + path, number=MountFlag.BIND | MountFlag.REC)
        self.add(Step.READONLY, NEW + path)


def quoted(path: str) -> str:
    r"""``path`` as a lower directory in overlay options, where ``\ , :`` have a meaning."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _flags(mount: Mount) -> MountFlag:
    """What the copy keeps of the original: read-only stays read-only, and noexec stays noexec."""
    flags = MountFlag.RDONLY if mount.read_only else MountFlag(0)
    return flags | MountFlag.NOEXEC if "noexec" in mount.options else flags


def _submount(view: View, tree: Tree, mount: Mount, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Show the directory that ``mount`` is mounted on."""
    if mount.point in tree.left_out:
        return
    if mount.point in tree.refused or mount.kind in IMAGES:
        view.read_only(mount.point)
    else:
        view.overlay(mount.point, mode, _flags(mount), owner)


def whole(tree: Tree, options: str) -> View:
    """The layout for real root."""
    view = View(options)
    root = tree.points.get("/") or Entry(path="/", kind="directory")
    view.overlay("/", root.mode, owner=root.owner)
    _mounted_below(view, tree, "/")
    return view


def _mounted_below(view: View, tree: Tree, path: str) -> None:
    """Show what is mounted below ``path``, where all mounts are ours to handle."""
    mounts = [mount for mount in tree.mounts if below(mount.point, path)]
    if any(_is_file(tree, mount) for mount in mounts) and not any(layer.upper == "files" for layer in view.layers):
        view.add(Step.MKDIR, f"{SCRATCH}/files", number=0o755)
        view.layers.append(Layer(upper="files", seen="/", skeleton=True))
    for mount in mounts:
        entry = tree.points.get(mount.point)
        if mount.pseudo or entry is None:
            continue
        if entry.kind == "directory":
            _submount(view, tree, mount, entry.mode, entry.owner)
        elif mount.read_only or entry.size > SMALL:
            view.read_only(mount.point)
        else:
            _file(view, mount.point)


def _is_file(tree: Tree, mount: Mount) -> bool:
    entry = tree.points.get(mount.point)
    return entry is not None and entry.kind == "file" and not mount.read_only and entry.size <= SMALL


def _file(view: View, path: str) -> None:
    """A file that is a mount point, as a container's /etc/hosts: no overlay can be on a file, so a copy is."""
    parts = path.split("/")[1:-1]
    for depth in range(len(parts)):
        view.add(Step.MKDIR, "/".join((SCRATCH, "files", *parts[: depth + 1])), number=0o755)
    copy = f"{SCRATCH}/files{path}"
    view.add(Step.COPY, copy, source=OLD + path)
    view.add(Step.MOUNT, NEW + path, source=copy, number=MountFlag.BIND)


def piecewise(tree: Tree, options: str, *, root_inside: bool) -> View:
    """The layout for a mount namespace in a user namespace.

    :param root_inside: the test is to be root in there, who may do what only the owner of a tree could outside.
    """
    view = View(options)
    view.add(Step.MKDIR, f"{SCRATCH}/skeleton", number=_root_mode(tree, root_inside=root_inside))
    view.add(Step.MOUNT, NEW, source=f"{SCRATCH}/skeleton", number=MountFlag.BIND)
    view.layers.append(Layer(upper="skeleton", seen="/", skeleton=True))
    _pieces_below(view, tree, "/", root_inside=root_inside)
    return view


def _root_mode(tree: Tree, *, root_inside: bool) -> int:
    root = next(entry for entry in tree.skeleton if entry.path == "/")
    return root.mode_for_owner(7 if root_inside else None)


def _pieces_below(view: View, tree: Tree, path: str, *, root_inside: bool) -> None:
    """Show all that is below ``path``, a directory with mounts below, and then its traps."""
    mounts = {mount.point: mount for mount in tree.mounts}
    for entry in tree.skeleton:
        hidden = any(below(entry.path, top) for top in (*KERNEL, *tree.refused, *tree.left_out))
        if hidden or not below(entry.path, path):
            continue
        mode = entry.mode_for_owner(7 if root_inside else None)
        if entry.kind == "link":
            view.add(Step.SYMLINK, NEW + entry.path, source=entry.target)
        elif entry.kind == "file":
            _skeleton_file(view, entry, mounts.get(entry.path), mode)
        else:
            view.add(Step.MKDIR, NEW + entry.path, number=mode)
            _skeleton_directory(view, tree, entry, mode)
    _traps_below(view, tree, path, root_inside=root_inside)


def _traps_below(view: View, tree: Tree, path: str, *, root_inside: bool) -> None:
    mounts = {mount.point: mount for mount in tree.mounts}
    for entry in tree.traps:
        if not below(entry.path, path):
            continue
        if entry.path in tree.refused:
            view.read_only(entry.path)
            continue
        view.overlay(entry.path, entry.mode_for_owner(7 if root_inside else None), _inherited(entry.path, mounts))


def part(view: View, tree: Tree, entry: Entry, *, rootless: bool, root_inside: bool) -> None:
    """Show one directory of the host, with all that is mounted below it, copy-on-write.

    :param rootless: in the layout of :func:`piecewise`, else in that of :func:`whole`.
    """
    mounts = {mount.point: mount for mount in tree.mounts}
    mode = entry.mode_for_owner(7 if root_inside else None) if rootless else entry.mode
    if entry.path in tree.refused:
        view.read_only(entry.path)
    elif rootless and any(below(mount.point, entry.path) for mount in tree.mounts):
        upper = f"skeleton{len(view.layers)}"
        view.add(Step.MKDIR, f"{SCRATCH}/{upper}", number=mode)
        view.add(Step.MOUNT, NEW + entry.path, source=f"{SCRATCH}/{upper}", number=MountFlag.BIND)
        view.layers.append(Layer(upper=upper, seen=entry.path, skeleton=True))
        _pieces_below(view, tree, entry.path, root_inside=root_inside)
    else:
        view.overlay(entry.path, mode, _inherited(entry.path, mounts), None if rootless else entry.owner)
        if rootless:
            _traps_below(view, tree, entry.path, root_inside=root_inside)
        else:
            _mounted_below(view, tree, entry.path)


def _skeleton_file(view: View, entry: Entry, mount: Mount | None, mode: int) -> None:
    if not entry.access & 4:
        view.add(Step.TOUCH, NEW + entry.path, number=mode)
    elif entry.size > SMALL or (mount and mount.read_only):
        view.add(Step.TOUCH, NEW + entry.path, number=mode)
        view.read_only(entry.path)
    else:
        view.add(Step.COPY, NEW + entry.path, source=OLD + entry.path, number=0 if mode == entry.mode else 1 + mode)


def _skeleton_directory(view: View, tree: Tree, entry: Entry, mode: int) -> None:
    """An overlay, unless something is mounted below, or there is nothing in it that the test could see or change."""
    mount = next((mount for mount in tree.mounts if mount.point == entry.path), None)
    if entry.path in KERNEL or entry.path in tree.left_out or (mount and mount.pseudo):
        return
    if entry.path in tree.refused:
        view.read_only(entry.path)
        return
    parent = any(below(mount.point, entry.path) for mount in tree.mounts)
    pointless = not entry.access & 1 or (entry.empty and not entry.access & 2)
    if parent or pointless:
        return
    if mount:
        _submount(view, tree, mount, mode)
    else:
        view.overlay(entry.path, mode, _inherited(entry.path, {mount.point: mount for mount in tree.mounts}))


def _inherited(path: str, mounts: dict[str, Mount]) -> MountFlag:
    """The flags of the mount that ``path`` is on."""
    while path not in mounts and path != "/":
        path = path.rsplit("/", 1)[0] or "/"
    return _flags(mounts[path]) if path in mounts else MountFlag(0)


def bound_through(paths: Iterable[str]) -> list[Op]:
    """What the test writes at ``paths`` goes to the host's own files."""
    flags = MountFlag.BIND | MountFlag.REC
    return [Op(Step.MOUNT, flags, OLD + path, NEW + path) for path in sorted(paths)]
