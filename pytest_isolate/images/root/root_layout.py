"""An image as the root of a sandbox: what is mounted where, found out once per session and image.

Everything in the image is found where it lies there, except at the project and /proc, /sys, /dev. What the host's
interpreter needs is shown at its own path where the image has nothing there, and below :data:`ASIDE` where it has
(docs/decisions/image-root.md).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pytest_isolate.images.root import host_python, libc
from pytest_isolate.images.root.merged_tree import Found, Merged
from pytest_isolate.images.store.store import Stack, Store
from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.plan.host_tree import KERNEL, SMALL, Entry, Kind, entry_at
from pytest_isolate.plan.image_root import ASIDE, ImageRoot
from pytest_isolate.spec.errors import ImageError

#: Of an image that names no PATH: what container engines take.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Owner of what belongs to its maker: root makes files of root, and a user can make only files of his own.
_CREATOR = (0, 0)
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
#: Places that no project can be shown at: the image would be gone.
_IMAGES_OWN = ("/", "/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/var", *KERNEL)


def root_of(
    stack: Stack,
    store: Store,
    *,
    name: str,
    real_root: bool,
    folders: Iterable[str] = (),
    writable: Sequence[str] = (),
    bare: bool = False,
) -> ImageRoot:
    """How ``stack`` becomes a root for tests of this process.

    :param folders: directories of the host where tests will write: the project, temporary folders.
    :param writable: paths that are bound through.
    :param bare: for a program of the image alone, whose changes become a layer: nothing of the host's, nothing added.
    :raises ImageError: if it can't, naming ``name``.
    """
    layers = [store.tree(chain) for chain in reversed(stack.layers)]
    merged = Merged(layers)
    layout = _Layout(name, merged, real_root=real_root)
    for path in KERNEL:
        layout.kernel(path)
    libraries = [] if bare else _with_python(layout, folders, writable)
    hosts = "" if bare else layout.hosts()
    top = merged.root.status
    trusted = real_root and all(layer.owners for chain in stack.layers if (layer := store.layer(chain)))
    return ImageRoot(
        layers=tuple(layers),
        points=tuple(sorted(layout.points.values(), key=lambda entry: entry.path.split("/"))),
        shown=tuple(sorted(layout.shown.values(), key=lambda pair: pair[1].split("/"))),
        copied=tuple(entry for path in layout.copied if (entry := entry_at(path)) is not None),
        aliases=tuple((os.path.realpath(path), path) for path in layout.aliases),
        bound=tuple(layout.bound.values()),
        moved=tuple(layout.moved.items()),
        libraries=tuple(libraries),
        env=_environment(stack.env),
        mode=stat.S_IMODE(top.st_mode),
        owner=(top.st_uid, top.st_gid) if real_root else _CREATOR,
        # Renamed directories that are marks only could not be made a layer of.
        options=overlayfs.options(trusted=trusted, redirect=not bare),
        hosts=hosts,
        tmpfs_memory=libc.needs_tmpfs(merged),
    )


def _with_python(layout: _Layout, folders: Iterable[str], writable: Sequence[str]) -> list[str]:
    """Place what this process goes on needing; where the host's shared objects are then."""
    present = [path for path in folders if os.path.isdir(path)]
    for path in outermost(map(os.path.realpath, present)):
        layout.copy(path)
    for path in outermost(map(os.path.normpath, present)):
        layout.alias(path)
    for path in writable:
        layout.bind(path)
    for path in host_python.prefixes():
        layout.show(path)
    for path in host_python.modules():
        if path not in (tempfile.gettempdir(), os.path.expanduser("~")) and not layout.show(path):
            layout.show_aside(path)
    for path in host_python.AUXILIARY:
        if os.path.exists(path):
            layout.show(path)
    libraries = [layout.aside(path) for path in host_python.libraries()]
    layout.folder("/tmp", 0o1777)  # noqa: S108 - every root has one
    layout.folder(tempfile.gettempdir(), 0o1777)
    layout.folder(os.path.expanduser("~"), 0o700)
    return libraries


def _environment(env: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The image's variables; in PATH, the image's directories come before those of this process."""
    found = dict(env)
    path = [*found.get("PATH", _PATH).split(":"), *os.environ.get("PATH", "").split(":")]
    found["PATH"] = ":".join(dict.fromkeys(folder for folder in path if folder))
    return tuple(found.items())


def outermost(paths: Iterable[str]) -> list[str]:
    """Each once, without those that lie in another."""
    every = set(paths)
    return sorted(path for path in every if not any(below(path, other) for other in every))


def _is_small_file(found: Found) -> bool:
    return stat.S_ISREG(found.status.st_mode) and found.status.st_size <= SMALL


def _read(found: Found) -> str:
    with open(found.real[0], encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


@dataclass(slots=True)
class _Layout:
    """Finds the places, one after another; what came before decides.

    A place is kept by the path that is asked for: as the path of the host that its links lead to, and the path inside
    that the image's links lead to.
    """

    name: str
    image: Merged
    real_root: bool = field(kw_only=True)
    points: dict[str, Entry] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    aliases: list[str] = field(default_factory=list)
    bound: dict[str, tuple[str, str]] = field(default_factory=dict)
    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)

    def kernel(self, path: str) -> None:
        """/proc, /sys, /dev: directories of the image's own, or something else would be mounted on."""
        found = self.image.at(path)
        if found is not None and not found.is_dir:
            problem = f"has {path} as something other than a directory; nothing can be mounted there."
            raise ImageError(self.name, problem)
        self._point(path, found)

    def copy(self, path: str) -> None:
        """Show a directory copy-on-write, even over what the image has there: it is where the project is.

        Links of the image on the way give way to directories: a path that is known to lead nowhere else must not do so.
        """
        if path in _IMAGES_OWN:
            where = f"{path} is a folder of the project, and would hide the image's"
            raise ImageError(self.name, f"{where}; run pytest in one further down.")
        found = self.image.at(path)
        self._point(path, found if found is not None and found.is_dir else None)
        self.copied.add(path)

    def alias(self, path: str) -> None:
        """Show what is copied by another path as well, one that has links in it outside."""
        if os.path.realpath(path) != path and not self._is_covered(path):
            self._point(path, None)
            self.aliases.append(path)

    def bind(self, path: str) -> None:
        """Bind a path through."""
        inside, found = self._resolve(path)
        if inside is None:
            raise ImageError(self.name, f"has a file on the way to {path}, which is to be writable.")
        if not self._is_covered(path):
            self._point(inside, found, file=not os.path.isdir(path))
        self.bound[path] = os.path.realpath(path), inside

    def show(self, path: str) -> bool:
        """Show a path of the host read-only in its place, unless the image has something there. Whether it is shown."""
        if self._is_covered(path):
            return True
        inside, found = self._resolve(path)
        empty = found is not None and found.is_dir and os.path.isdir(path) and not self.image.names(found)
        if inside is None or (found is not None and not empty):
            return False
        self._point(inside, found, file=not os.path.isdir(path))
        self.shown[path] = os.path.realpath(path), inside
        return True

    def show_aside(self, path: str) -> None:
        """Show modules where the image has nothing, and remember it."""
        self.moved[path] = self.aside(path)

    def aside(self, path: str) -> str:
        """Show a directory aside; where that is."""
        inside = ASIDE + path
        self.shown[inside] = os.path.realpath(path), inside
        return inside

    def folder(self, path: str, mode: int) -> None:
        """See that there is such a directory, this user's."""
        inside, found = self._resolve(path)
        if inside is not None and not self._is_covered(path):
            self._point(inside, found)
            if found is None:
                self.points[inside] = Entry(path=inside, kind="directory", mode=mode)

    def hosts(self) -> str:
        """See that ``localhost`` has an address; where the file is that other names can be added to, "" if nowhere."""
        inside, found = self._resolve("/etc/hosts")
        if inside is None or (found is not None and not _is_small_file(found)):
            return ""
        content = _HOSTS if found is None else _read(found)
        self._point(inside, None, file=True, content=content)
        if inside not in self.points:  # below the project
            return ""
        if found is not None:
            mode = stat.S_IMODE(found.status.st_mode)
            owner = (found.status.st_uid, found.status.st_gid) if self.real_root else _CREATOR
            self.points[inside] = self.points[inside]._replace(mode=mode, owner=owner)
        return inside

    def _is_covered(self, path: str) -> bool:
        """Whether ``path`` is seen through something that is shown already."""
        shown = (*self.copied, *self.aliases, *self.bound, *self.shown, *self.moved)
        return any(path == other or below(path, other) for other in shown)

    def _resolve(self, path: str) -> tuple[str | None, Found | None]:
        try:
            return self.image.resolve(path, [point.path for point in self.points.values() if point.kind == "directory"])
        except OSError:
            return None, None

    def _point(self, path: str, found: Found | None, *, file: bool = False, content: str = "") -> None:
        """See that there is something to mount on: what the image lacks is made in a layer on top of it."""
        if found is not None or any(below(path, copied) for copied in self.copied):
            return
        names = path.split("/")
        for depth in range(2, len(names)):
            self._parent("/".join(names[:depth]))
        kind: Kind = "file" if file else "directory"
        new = Entry(path=path, kind=kind, mode=0o644 if file else 0o755, target=content)
        self.points.setdefault(path, new)

    def _parent(self, path: str) -> None:
        """In a merged directory the topmost layer's attributes count, so this one repeats those of the image."""
        there = self.image.at(path)
        mode, owner = 0o755, _CREATOR
        if there is not None and there.is_dir:
            mode, owner = stat.S_IMODE(there.status.st_mode), (there.status.st_uid, there.status.st_gid)
        new = Entry(path=path, kind="directory", mode=mode, owner=owner if self.real_root else _CREATOR)
        self.points.setdefault(path, new)
