"""The store of kept layers: one per user, private, bounded in number, bytes and age.

ID/files        what the test added and modified, each at its path
ID/layer.json   what it is (:class:`KeptLayer`); written last, so an ID without it is not whole
bounds.json     how much the session keeps that was the last to keep a layer (:class:`Bounds`)
lock            held (flock(2)) by the process that adds or removes
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pytest_isolate.images.store.store import default_path as image_store
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.remove_tree import remove_tree
from pytest_isolate.session.kept.surroundings import Surroundings
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.keys import KEEP_NUMBER, KEEP_SIZE
from pytest_isolate.spec.sizes import size_text

#: Seconds to wait for another process that adds a layer, or removes some.
LOCK_SECONDS = 60.0
#: Layers are removed that are older.
OLDEST_DAYS = 14
_LOOK_SECONDS = 0.02
#: The kernel dates files by a clock that is behind by a tick of some milliseconds; xdist's workers begin one by one.
_CLOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is kept."""

    number: int = KEEP_NUMBER
    size: int = KEEP_SIZE  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLayer:
    """What ``layer.json`` has."""

    test: str  #: node id
    result: str  #: ``failed`` or ``passed``
    image: str | None  #: name of the image that it ran on
    size: int  #: bytes that it takes
    changes: tuple[tuple[str, str], ...]  #: kind (A, M, D) and path
    lost: tuple[str, ...]  #: what could not be kept, as "PATH: REASON"
    #: the writable layers: where each appears, and the image's directories below it; none: the host's tree
    layers: tuple[tuple[str, tuple[str, ...]], ...]
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class Entry:
    """A layer of the store."""

    path: Path
    when: float  #: seconds since the epoch
    layer: KeptLayer

    @property
    def id(self) -> str:
        """What commands call it."""
        return self.path.name


def default_path() -> Path:
    """Beside the store of images."""
    return image_store().parent / "kept-1"


class NotKeptError(Exception):
    """A layer is not kept. Its text is the reason."""


class KeptStore:
    """The store at ``path``, made when something is put into it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._started = time.time() - _CLOCK_SECONDS

    def entries(self) -> list[Entry]:
        """All that are whole, the oldest first. One of another version's form is none."""
        found = []
        for path in self.path.glob("*/layer.json"):
            with suppress(OSError, ValueError, TypeError, KeyError):
                found.append(Entry(path.parent, path.stat().st_mtime, _read(path)))
        return sorted(found, key=lambda entry: (entry.when, entry.id))

    def add(self, layer: KeptLayer, bounds: Bounds, fill: Callable[[int], list[str]]) -> str:
        """Keep a layer; its id. Those of earlier sessions give way to it, the oldest first.

        :param fill: copies its files to an open directory; what could not be copied.
        :raises NotKeptError: this session has filled the store. :raises OSError: the disk is full, say.
        """
        with self._lock():
            self._make_room(layer.size, bounds)
            _write(self.path / "bounds.json", asdict(bounds))
            return self._put(layer, fill).name

    def replace(self, entry: Entry, layer: KeptLayer, fill: Callable[[int], list[str]]) -> None:
        """Put ``layer`` in the place of ``entry``; others may give way to it. Raises as :meth:`add` does."""
        with self._lock():
            self._make_room(layer.size, self.bounds(), beside=entry)
            path = self._put(layer, fill)
            remove_tree(entry.path, ignore_errors=True)
            os.rename(path, entry.path)  # until then it is whole under another ID

    def bounds(self) -> Bounds:
        """Those of the session that was the last to keep a layer."""
        with suppress(OSError, ValueError, TypeError):
            return Bounds(**json.loads((self.path / "bounds.json").read_text("ascii")))
        return Bounds()

    def sweep(self, bounds: Bounds) -> int:
        """Remove what is too old, too much, or not whole; how many layers went."""
        if not self.path.is_dir():
            return 0
        with self._lock():
            whole = self.entries()
            for path in self.path.iterdir():  # of a process that was killed: who adds has the lock
                if path.is_dir() and path not in [entry.path for entry in whole]:
                    remove_tree(path, ignore_errors=True)
            gone = [entry for entry in whole if entry.when < self._started - OLDEST_DAYS * 86400]
            kept = whole[len(gone) :]
            while kept and (len(kept) > bounds.number or _size(kept) > bounds.size):
                gone.append(kept.pop(0))
            for entry in gone:
                remove_tree(entry.path, ignore_errors=True)
            return len(gone)

    def remove(self, entry: Entry) -> None:
        """Remove one."""
        with self._lock():
            remove_tree(entry.path)

    def _put(self, layer: KeptLayer, fill: Callable[[int], list[str]]) -> Path:
        path = self.path / os.urandom(3).hex()
        calls.mkdir(path, 0o700)
        try:
            calls.mkdir(path / "files", 0o700)
            top = calls.open(path / "files", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                lost = fill(top)
            finally:
                calls.close(top)
            data = {field.name: getattr(layer, field.name) for field in fields(layer)}
            _write(path / "layer.json", {**data, "lost": lost, "surroundings": layer.surroundings.data()})
        except BaseException:
            remove_tree(path, ignore_errors=True)
            raise
        return path

    def _make_room(self, size: int, bounds: Bounds, beside: Entry | None = None) -> None:
        if size > bounds.size:
            problem = f"it takes {size_text(size, 1)}, and --isolate-keep-size={size_text(bounds.size)}"
            raise NotKeptError(problem)
        kept = [entry for entry in self.entries() if beside is None or entry.id != beside.id]
        old = [entry for entry in kept if entry.when < self._started]
        while len(kept) >= bounds.number or _size(kept) + size > bounds.size:
            if not old:  # what a failure of this session names is still to be there when it is read
                raise NotKeptError(
                    f"this session has kept {len(kept)} layers of {size_text(_size(kept), 1)}, and "
                    f"--isolate-keep-number={bounds.number} --isolate-keep-size={size_text(bounds.size)}"
                )
            kept.remove(old[0])
            remove_tree(old.pop(0).path, ignore_errors=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        calls.chmod(self.path, 0o700)
        fd = calls.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = calls.monotonic() + LOCK_SECONDS
            while not _try_lock(fd):
                if calls.monotonic() > end:
                    raise SetupError("lock the kept layers", str(self.path), errno.ETIMEDOUT, "Which process holds it?")
                calls.sleep(_LOOK_SECONDS)
            yield
        finally:
            calls.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        calls.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(entries: list[Entry]) -> int:
    return sum(entry.layer.size for entry in entries)


def _write(path: Path, data: object) -> None:
    part = path.with_suffix(".part")
    fd = calls.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(calls.encode(data))
    os.rename(part, path)


def _read(path: Path) -> KeptLayer:
    data = json.loads(path.read_text("ascii"))
    data["changes"] = tuple((kind, name) for kind, name in data["changes"])
    data["layers"] = tuple((seen, tuple(lowers)) for seen, lowers in data["layers"])
    data["surroundings"] = Surroundings.of(data["surroundings"])
    return KeptLayer(**{**data, "lost": tuple(data["lost"])})
