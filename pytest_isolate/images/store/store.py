"""The store of unpacked layers: one per user, shared by all projects, tests and workers, added to and never changed.

    layers/CHAIN/fs           the unpacked tree
    layers/CHAIN/layer.json   what it is: :class:`StoredLayer`
    images/DIGEST.json        which layers an image stacks: :class:`Stack`
    locks/CHAIN               held (flock(2)) by the process that unpacks or removes that layer
    tmp/CHAIN.*               being unpacked, or left by a process that was killed

``CHAIN`` is the layer's chain id (OCI image specification, config.md): the digest of a layer *on* those below it, as a
tar may leave attributes of directories to them. A directory appears under ``layers`` by one rename(2), so what is there
is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_isolate.linux.remove_tree import remove_tree
from pytest_isolate.spec.errors import ImageError

#: Seconds to wait for another process that unpacks or removes a layer: a large one takes minutes.
LOCK_SECONDS = 900.0
_FORM = 1  #: of the store: another number is another store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """An unpacked layer, as its ``layer.json`` has it."""

    chain: str  #: chain id, hexadecimal
    diff_id: str  #: digest of its tar
    parent: str | None  #: chain id of what it was unpacked onto
    tree: str  #: digest of the unpacked tree
    entries: int  #: in the tar
    size: int  #: bytes in its files
    owners: bool  #: files have the owners that the tar names; else all belong to the user
    left_out: tuple[tuple[str, int], ...]  #: what of the tar is not in the tree, and how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """An image as its metadata file has it: what its root file system is made of."""

    digest: str  #: the image's identity
    layers: tuple[str, ...]  #: chain ids, the lowest first
    env: tuple[tuple[str, str], ...]  #: variables that it sets
    sources: tuple[str, ...]  #: folders that it came from


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain id of each layer, hexadecimal; the lowest layer first."""
    chain: list[str] = []
    above = ""
    for diff_id in diff_ids:
        # The specification's chain id has the algorithm's name in it, and so is the lowest layer's its diff id.
        above = f"sha256:{hashlib.sha256(f'{above} {diff_id}'.encode()).hexdigest()}" if above else diff_id
        chain.append(above.replace(":", "-", 1).removeprefix("sha256-"))
    return chain


def default_path() -> Path:
    """In the user's cache directory (XDG Base Directory Specification)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.expanduser("~/.cache")
    return Path(cache, "pytest-isolate-ns", f"images-{_FORM}")


class Store:
    """The store at ``path``, made when something is put into it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    # ------------------------------------------------------------------------------------------------- reading

    def layer(self, chain: str) -> StoredLayer | None:
        """A layer that is there."""
        found = _read(self.path / "layers" / chain / "layer.json")
        return None if found is None else StoredLayer(**{**found, "left_out": _pairs(found["left_out"])})

    def layers(self) -> list[str]:
        """Chain ids of all layers."""
        return _names(self.path / "layers")

    def tree(self, chain: str) -> str:
        """Where a layer's tree is."""
        return str(self.path / "layers" / chain / "fs")

    def image(self, digest: str) -> Stack | None:
        """An image all of whose layers are there."""
        found = _read(self._image_file(digest))
        if found is None:
            return None
        stack = Stack(
            digest=found["digest"],
            layers=tuple(found["layers"]),
            env=_pairs(found["env"]),
            sources=tuple(found["sources"]),
        )
        return stack if all((self.path / "layers" / chain / "layer.json").is_file() for chain in stack.layers) else None

    def images(self) -> list[Stack]:
        """All images that are whole."""
        found = [self.image(name.removesuffix(".json").replace("-", ":", 1)) for name in _names(self.path / "images")]
        return [stack for stack in found if stack is not None]

    # ------------------------------------------------------------------------------------------------- adding

    @contextmanager
    def add_layer(self, chain: str) -> Iterator[str | None]:
        """A directory to unpack a layer into, or None if the layer is there; other processes wait meanwhile.

        :meth:`publish` makes the layer of it; otherwise it is removed.
        """
        with self.lock(chain):
            if (self.path / "layers" / chain).is_dir():
                yield None
                return
            temporary = self.path / "tmp"
            temporary.mkdir(exist_ok=True)
            for old in temporary.glob(f"{chain}.*"):  # of a process that was killed, as the lock is ours
                remove_tree(old)
            made = Path(tempfile.mkdtemp(prefix=f"{chain}.", dir=temporary))
            try:
                (made / "fs").mkdir(mode=0o755)
                yield str(made / "fs")
            finally:
                if made.exists():
                    remove_tree(made)

    def publish(self, tree: str, layer: StoredLayer) -> None:
        """Make what :meth:`add_layer` gave a layer of the store."""
        made = Path(tree).parent
        _write(made / "layer.json", asdict(layer))
        layers = self.path / "layers"
        layers.mkdir(exist_ok=True)
        made.rename(layers / layer.chain)

    def register(self, stack: Stack) -> None:
        """Write down which layers an image has."""
        with self.lock("images"):
            known = self.image(stack.digest)
            sources = {*stack.sources, *(known.sources if known else ())}
            (self.path / "images").mkdir(exist_ok=True)
            _write(self._image_file(stack.digest), {**asdict(stack), "sources": sorted(sources)})

    # ------------------------------------------------------------------------------------------------- removing

    def remove_image(self, digest: str) -> None:
        """Forget an image; its layers go with :meth:`sweep`, if no other has them."""
        with self.lock("images"), suppress(FileNotFoundError):
            self._image_file(digest).unlink()

    def remove_layer(self, chain: str) -> None:
        """Remove a layer. A sandbox that has it mounted loses its files. Needs :meth:`lock_alone`."""
        layer, temporary = self.path / "layers" / chain, self.path / "tmp"
        temporary.mkdir(exist_ok=True)
        if layer.is_dir():
            layer.rename(temporary / f"{chain}.removed")  # at once: half a layer must never be used
        for old in temporary.glob(f"{chain}.*"):
            remove_tree(old)

    def sweep(self) -> int:
        """Remove layers that no image has, and what was left half done; how many layers. Needs :meth:`lock_alone`."""
        needed = {chain for stack in self.images() for chain in stack.layers}
        gone = [chain for chain in self.layers() if chain not in needed]
        for chain in {*gone, *(name.partition(".")[0] for name in _names(self.path / "tmp"))}:
            self.remove_layer(chain)
        return len(gone)

    def lock_shared(self) -> AbstractContextManager[None]:
        """While layers are added whose image is not registered yet: nobody removes any."""
        return self.lock("store", fcntl.LOCK_SH)

    def lock_alone(self) -> AbstractContextManager[None]:
        """While layers are removed: nobody adds any."""
        return self.lock("store")

    @contextmanager
    def lock(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold a lock of the store. Its file stays: one that is removed could be locked twice, by its old and new self.

        :raises ImageError: if the store cannot be written, or another process holds the lock all too long.
        """
        try:
            (self.path / "locks").mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ImageError(
                str(self.path),
                f"the store cannot be written ({error.strerror}); XDG_CACHE_HOME names another place for it.",
            ) from error
        try:
            _take(descriptor, how, self.path / "locks" / name)
            yield
        finally:
            os.close(descriptor)

    def _image_file(self, digest: str) -> Path:
        return self.path / "images" / f"{digest.replace(':', '-', 1)}.json"


def _take(descriptor: int, how: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                problem = (
                    f"another process has held the lock of the store for {LOCK_SECONDS:g} s: see lslocks, or end it."
                )
                raise ImageError(str(path), problem) from None
        time.sleep(0.02)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _pairs(listed: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(tuple(pair) for pair in listed)


def _read(path: Path) -> Any:
    """A metadata file; None if it is missing, or of a form that this version does not know."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ImageError(str(path), f"cannot be read ({error}); remove it and import the image again.") from error
    kind = StoredLayer if path.name == "layer.json" else Stack
    return found if isinstance(found, dict) and found.keys() == {each.name for each in fields(kind)} else None


def _write(path: Path, content: object) -> None:
    """All or nothing."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
