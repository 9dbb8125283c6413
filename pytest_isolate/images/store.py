"""The store of unpacked layers: one per user, shared by all projects, tests and workers, added to and never changed.

    layers/CHAIN/fs           the unpacked tree
    layers/CHAIN/layer.json   what it is: :class:`Layer`
    images/DIGEST.json        which layers an image stacks: :class:`Stack`
    locks/CHAIN               held (flock(2)) by whoever unpacks or removes that layer
    tmp/CHAIN.*               being unpacked, or left by somebody who was killed

``CHAIN`` is the layer's chain id (OCI image specification, config.md): the digest of a layer *on* those below it, as a
tar may leave attributes of directories to them. A directory appears under ``layers`` by one rename(2), so what is there
is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_isolate.errors import ImageError

_FORM = 1  #: of the store: another number is another store


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
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


def default_place() -> Path:
    """In the user's cache directory (XDG Base Directory Specification)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.expanduser("~/.cache")
    return Path(cache, "pytest-isolate-ns", f"images-{_FORM}")


class Store:
    """The store at ``place``, made when something is put into it."""

    def __init__(self, place: Path | None = None) -> None:
        self.place = place or default_place()

    # ------------------------------------------------------------------------------------------------- reading

    def layer(self, chain: str) -> Layer | None:
        """A layer that is there."""
        found = _read(self.place / "layers" / chain / "layer.json")
        return None if found is None else Layer(**{**found, "left_out": _pairs(found["left_out"])})

    def layers(self) -> list[str]:
        """Chain ids of all layers."""
        return _names(self.place / "layers")

    def tree(self, chain: str) -> str:
        """Where a layer's tree is."""
        return str(self.place / "layers" / chain / "fs")

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
        return (
            stack if all((self.place / "layers" / chain / "layer.json").is_file() for chain in stack.layers) else None
        )

    def images(self) -> list[Stack]:
        """All images that are whole."""
        found = [self.image(name.removesuffix(".json").replace("-", ":", 1)) for name in _names(self.place / "images")]
        return [stack for stack in found if stack is not None]

    # ------------------------------------------------------------------------------------------------- adding

    @contextmanager
    def adding(self, chain: str) -> Iterator[str | None]:
        """A directory to unpack a layer into, or None if the layer is there; other processes wait meanwhile.

        :meth:`publish` makes the layer of it; otherwise it is removed.
        """
        with self.locked(chain):
            if (self.place / "layers" / chain).is_dir():
                yield None
                return
            temporary = self.place / "tmp"
            temporary.mkdir(exist_ok=True)
            for old in temporary.glob(f"{chain}.*"):  # of somebody who was killed, as the lock is ours
                remove_tree(old)
            made = Path(tempfile.mkdtemp(prefix=f"{chain}.", dir=temporary))
            try:
                (made / "fs").mkdir(mode=0o755)
                yield str(made / "fs")
            finally:
                if made.exists():
                    remove_tree(made)

    def publish(self, tree: str, layer: Layer) -> None:
        """Make what :meth:`adding` gave a layer of the store."""
        made = Path(tree).parent
        _write(made / "layer.json", asdict(layer))
        layers = self.place / "layers"
        layers.mkdir(exist_ok=True)
        made.rename(layers / layer.chain)

    def register(self, stack: Stack) -> None:
        """Write down which layers an image has."""
        with self.locked("images"):
            known = self.image(stack.digest)
            sources = {*stack.sources, *(known.sources if known else ())}
            (self.place / "images").mkdir(exist_ok=True)
            _write(self._image_file(stack.digest), {**asdict(stack), "sources": sorted(sources)})

    # ------------------------------------------------------------------------------------------------- removing

    def remove_image(self, digest: str) -> None:
        """Forget an image; its layers go with :meth:`sweep`, if no other has them."""
        with self.locked("images"), suppress(FileNotFoundError):
            self._image_file(digest).unlink()

    def remove_layer(self, chain: str) -> None:
        """Remove a layer. A sandbox that has it mounted loses its files. Needs :meth:`alone`."""
        layer, temporary = self.place / "layers" / chain, self.place / "tmp"
        temporary.mkdir(exist_ok=True)
        if layer.is_dir():
            layer.rename(temporary / f"{chain}.removed")  # at once: half a layer must never be used
        for old in temporary.glob(f"{chain}.*"):
            remove_tree(old)

    def sweep(self) -> int:
        """Remove layers that no image has, and what was left half done; how many layers. Needs :meth:`alone`."""
        needed = {chain for stack in self.images() for chain in stack.layers}
        gone = [chain for chain in self.layers() if chain not in needed]
        for chain in {*gone, *(name.partition(".")[0] for name in _names(self.place / "tmp"))}:
            self.remove_layer(chain)
        return len(gone)

    def shared(self) -> AbstractContextManager[None]:
        """While layers are added whose image is not registered yet: nobody removes any."""
        return self.locked("store", fcntl.LOCK_SH)

    def alone(self) -> AbstractContextManager[None]:
        """While layers are removed: nobody adds any."""
        return self.locked("store")

    @contextmanager
    def locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold a lock of the store. Its file stays: one that is removed could be locked twice, by its old and new self.

        :raises ImageError: if the store cannot be written.
        """
        try:
            (self.place / "locks").mkdir(parents=True, exist_ok=True)
            lock = os.open(self.place / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ImageError(
                str(self.place),
                f"the store cannot be written ({error.strerror}); XDG_CACHE_HOME names another place for it.",
            ) from error
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    def _image_file(self, digest: str) -> Path:
        return self.place / "images" / f"{digest.replace(':', '-', 1)}.json"


def remove_tree(path: Path) -> None:
    """Remove a tree, whatever permissions its directories have."""
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(path)


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
    kind = Layer if path.name == "layer.json" else Stack
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
