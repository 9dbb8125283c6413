"""The writable view of the host's tree: which overlays to mount where, as operations of a Plan. Pure.

Each writable layer has its upper and work directory in the sandbox's scratch space (``/s``) and the host's own tree,
which PID 1 finds at ``/old``, as its lower one. Two layouts:

- :func:`whole`, where the host's mounts are ours to handle: one overlay of ``/``, and one per further file system,
  because an overlay does not cross mount points (Documentation/filesystems/overlayfs.rst, "Upper and Lower").
- :func:`piecewise`, in a mount namespace that belongs to a user namespace: the kernel refuses an overlay of a directory
  with a mount below it, as those mounts are locked together (mount_namespaces(7), "Restrictions on mount namespaces";
  the fix of CVE-2021-3732). So a skeleton of plain directories is made where there are mounts below, and each directory
  within that has none becomes an overlay.

Only mount points may be looked up through a new overlay: what was looked up once stays in the dentry cache, and would
hide what a session's fixtures change in the lower tree before the test starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.flags import MountFlag
from pytest_isolate.linux.mountinfo import IMAGES, Mount, below
from pytest_isolate.plan import operations as do
from pytest_isolate.plan import own_name
from pytest_isolate.plan.host_tree import KERNEL, SHM, SMALL, Entry, HostTree
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.own_name import OwnName
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.plan.session_layers import SESSION

NEW = "/new"
SCRATCH = "/s"
SAFE = MountFlag.NOSUID | MountFlag.NODEV
#: Mode of an empty file that something is mounted on: changed_files.c knows by it that no test has emptied the file.
_COVERED = 0o1000


@dataclass(eq=False, repr=False)
class View:
    """The operations so far, and the layers that they make."""

    options: str  #: of each overlay, after its directories
    own: OwnName | None = None  #: what to add to /etc/hosts, if anything
    session_layers: Mapping[str, str] = field(default_factory=dict)  #: see :class:`HostTree`
    ops: list[Op] = field(default_factory=list)
    layers: list[WritableLayer] = field(default_factory=list)

    def add(self, *ops: Op) -> None:
        """Append operations."""
        self.ops += ops

    def own_at(self, path: str) -> OwnName | None:
        """What to show at ``path`` in the place of the host's file."""
        return self.own if path == own_name.FILE else None

    def overlay(
        self,
        path: str,
        mode: int,
        flags: MountFlag = MountFlag(0),
        owner: tuple[int, int] | None = None,
        safe: MountFlag = SAFE,
    ) -> None:
        """A writable layer over ``path``; ``mode`` and ``owner`` are those of its root, the upper directory.

        :param safe: what does not depend on the mount that it covers.
        """
        number = len(self.layers)
        upper, work = f"{SCRATCH}/u{number}", f"{SCRATCH}/w{number}"
        self.add(do.mkdir(upper, mode))
        if owner and owner != (0, 0):
            self.add(do.chown(upper, *owner))
        if mode & 0o6000:  # which mkdir(2) does not set
            self.add(do.chmod(upper, mode))
        if self.own and self.own.layer == path:
            self.add(*self.own.put_in(upper))
        data = overlayfs.directories(self._lowers(path), upper, work) + self.options
        self.add(do.mkdir(work, 0o700), do.mount("overlay", NEW + path, "overlay", safe | flags, data))
        self.layers.append(WritableLayer(upper=f"u{number}", seen=path))

    def _lowers(self, path: str) -> list[str]:
        """What a layer covers: the host's tree, in a session sandbox its layer there, and what that covers."""
        if (number := self.session_layers.get(path)) is None:
            return [OLD + path]
        return [f"{OLD}{SESSION}/s/u{number}", f"{OLD}{SESSION}/{number}"]

    def devices(self) -> None:
        """A writable layer over /dev, whose devices can be used; for real root."""
        self.overlay("/dev", 0o755, safe=MountFlag.NOSUID)

    def read_only(self, path: str) -> None:
        """The host's own tree at ``path``, not to be written."""
        self.add(do.bind(OLD + path, NEW + path, recursive=True), do.read_only(NEW + path))


def _flags(mount: Mount) -> MountFlag:
    """What the copy keeps of the original: read-only stays read-only, and noexec stays noexec."""
    flags = MountFlag.RDONLY if mount.read_only else MountFlag(0)
    return flags | MountFlag.NOEXEC if "noexec" in mount.options else flags


def _show_mount(view: View, tree: HostTree, mount: Mount, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Show the directory that ``mount`` is mounted on."""
    if mount.point in tree.left_out:
        return
    if mount.point in tree.refused or mount.kind in IMAGES:
        view.read_only(mount.point)
    else:
        view.overlay(mount.point, mode, _flags(mount), owner)


def whole(tree: HostTree, options: str, own: OwnName | None = None) -> View:
    """The layout for real root."""
    view = View(options, own=own, session_layers=tree.session_layers)
    root = tree.points.get("/") or Entry(path="/", kind="directory")
    view.overlay("/", root.mode, owner=root.owner)
    _show_mounts_below(view, tree, "/")
    return view


def _show_mounts_below(view: View, tree: HostTree, path: str) -> None:
    """Show what is mounted below ``path``, where all mounts are ours to handle."""
    mounts = [mount for mount in tree.mounts if below(mount.point, path)]
    if any(_is_copied(view, tree, mount) for mount in mounts) and all(layer.upper != "files" for layer in view.layers):
        view.add(do.mkdir(f"{SCRATCH}/files"))
        view.layers.append(WritableLayer(upper="files", seen="/", skeleton=True))
    for mount in mounts:
        entry = tree.points.get(mount.point)
        if mount.pseudo or entry is None:
            continue
        if entry.kind == "directory":
            _show_mount(view, tree, mount, entry.mode, entry.owner)
        elif _is_copied(view, tree, mount):
            _show_file(view, mount.point)
            if mount.read_only:
                view.add(do.read_only(NEW + mount.point))
        else:
            view.read_only(mount.point)


def _is_copied(view: View, tree: HostTree, mount: Mount) -> bool:
    """Whether it is on a file that a copy is shown of: one that can be written to, or that gets lines of ours."""
    entry = tree.points.get(mount.point)
    if entry is None or entry.kind != "file" or entry.size > SMALL:
        return False
    return not mount.read_only or view.own_at(mount.point) is not None


def _show_file(view: View, path: str) -> None:
    """A file that is a mount point, as a container's /etc/hosts: no overlay can be on a file, so a copy is."""
    parts = path.split("/")[1:-1]
    for depth in range(len(parts)):
        view.add(do.mkdir("/".join((SCRATCH, "files", *parts[: depth + 1]))))
    copy = f"{SCRATCH}/files{path}"
    own = view.own_at(path)
    view.add(*(own.copy_to(copy) if own else [do.copy(OLD + path, copy)]), do.bind(copy, NEW + path))


def piecewise(tree: HostTree, options: str, own: OwnName | None = None, *, root_inside: bool) -> View:
    """The layout for a mount namespace in a user namespace.

    :param root_inside: the test is root inside, and root may do inside what only the owner of a tree may do outside.
    """
    view = View(options, own=own, session_layers=tree.session_layers)
    view.add(
        do.mkdir(f"{SCRATCH}/skeleton", _root_mode(tree, root_inside=root_inside)),
        do.bind(f"{SCRATCH}/skeleton", NEW),
    )
    view.layers.append(WritableLayer(upper="skeleton", seen="/", skeleton=True))
    _show_pieces_below(view, tree, "/", root_inside=root_inside)
    return view


def _root_mode(tree: HostTree, *, root_inside: bool) -> int:
    root = next(entry for entry in tree.skeleton if entry.path == "/")
    return root.mode_for_owner(7 if root_inside else None)


def _show_pieces_below(view: View, tree: HostTree, path: str, *, root_inside: bool) -> None:
    """Show all that is below ``path``, a directory with mounts below, and then its traps."""
    mounts = {mount.point: mount for mount in tree.mounts}
    for entry in tree.skeleton:
        hidden = any(below(entry.path, top) for top in (*KERNEL, *tree.refused, *tree.left_out))
        if hidden or not below(entry.path, path):
            continue
        mode = entry.mode_for_owner(7 if root_inside else None)
        if own := view.own_at(entry.path):
            view.add(*own.copy_to(NEW + entry.path))
        elif entry.kind == "link":
            view.add(do.symlink(entry.target, NEW + entry.path))
        elif entry.kind == "file":
            _make_skeleton_file(view, entry, mounts.get(entry.path), mode)
        else:
            view.add(do.mkdir(NEW + entry.path, mode))
            _make_skeleton_directory(view, tree, entry, mode)
    _show_traps_below(view, tree, path, root_inside=root_inside)


def _show_traps_below(view: View, tree: HostTree, path: str, *, root_inside: bool) -> None:
    mounts = {mount.point: mount for mount in tree.mounts}
    for entry in tree.traps:
        if not below(entry.path, path) or entry.path in tree.left_out:
            continue
        if entry.path in tree.refused:
            view.read_only(entry.path)
            continue
        view.overlay(entry.path, entry.mode_for_owner(7 if root_inside else None), _inherit_flags(entry.path, mounts))


def part(view: View, tree: HostTree, entry: Entry, *, rootless: bool, root_inside: bool) -> None:
    """Show one directory of the host, with all that is mounted below it, copy-on-write.

    :param rootless: in the layout of :func:`piecewise`, else in that of :func:`whole`.
    """
    mounts = {mount.point: mount for mount in tree.mounts}
    mode = entry.mode_for_owner(7 if root_inside else None) if rootless else entry.mode
    if entry.path in tree.refused:
        view.read_only(entry.path)
    elif rootless and any(below(mount.point, entry.path) for mount in tree.mounts):
        upper = f"skeleton{len(view.layers)}"
        view.add(do.mkdir(f"{SCRATCH}/{upper}", mode), do.bind(f"{SCRATCH}/{upper}", NEW + entry.path))
        view.layers.append(WritableLayer(upper=upper, seen=entry.path, skeleton=True))
        _show_pieces_below(view, tree, entry.path, root_inside=root_inside)
    else:
        view.overlay(entry.path, mode, _inherit_flags(entry.path, mounts), None if rootless else entry.owner)
        if rootless:
            _show_traps_below(view, tree, entry.path, root_inside=root_inside)
        else:
            _show_mounts_below(view, tree, entry.path)


def _make_skeleton_file(view: View, entry: Entry, mount: Mount | None, mode: int) -> None:
    if not entry.access & 4:
        view.add(do.touch(NEW + entry.path, mode))
    elif entry.size > SMALL or (mount and mount.read_only):
        view.add(do.touch(NEW + entry.path, _COVERED))
        view.read_only(entry.path)
    else:
        view.add(do.copy(OLD + entry.path, NEW + entry.path, None if mode == entry.mode else mode))


def _make_skeleton_directory(view: View, tree: HostTree, entry: Entry, mode: int) -> None:
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
        _show_mount(view, tree, mount, mode)
    else:
        view.overlay(entry.path, mode, _inherit_flags(entry.path, {mount.point: mount for mount in tree.mounts}))


def _inherit_flags(path: str, mounts: dict[str, Mount]) -> MountFlag:
    """The flags of the mount that ``path`` is on."""
    while path not in mounts and path != "/":
        path = path.rsplit("/", 1)[0] or "/"
    return _flags(mounts[path]) if path in mounts else MountFlag(0)


def shared_memory(view: View, tree: HostTree) -> list[Op]:
    """Show the host's shared memory copy-on-write, once /dev is there; nothing where no overlay can be had."""
    mode = tree.shared_memory
    if mode is None or SHM in tree.refused or SHM in tree.left_out:
        return []
    late = View(view.options, layers=view.layers)
    late.overlay(SHM, mode)
    return late.ops


def bind_through(paths: Iterable[str]) -> list[Op]:
    """What the test writes at ``paths`` goes to the host's own files."""
    return [do.bind(OLD + path, NEW + path, recursive=True) for path in sorted(paths)]
