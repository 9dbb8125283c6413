"""Brings images into the store: each layer streamed from its source, checked, and unpacked in a jail.

While the fork in the jail unpacks, this process reads the source, decompresses and compares digests. A layer that is
refused leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module

from pytest_isolate import image_names
from pytest_isolate.errors import ImageError
from pytest_isolate.host import Host
from pytest_isolate.images import recipe, untar
from pytest_isolate.images.root import Root, root_of
from pytest_isolate.images.source import opened
from pytest_isolate.images.store import Layer, Stack, Store, chain_ids
from pytest_isolate.images.stream import tar_of
from pytest_isolate.images.untar import OPAQUE
from pytest_isolate.jail import Jail
from pytest_isolate.native import Fd

_TRUSTED = OPAQUE.replace("user.", "trusted.", 1)

#: Tells somebody who waits what is being done.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """Limits on one layer."""

    size: int = untar.MOST_BYTES  #: bytes in its files
    entries: int = untar.MOST_ENTRIES


def install(path: str, store: Store, *, most: Most | None = None, tell: Tell = lambda _: None) -> Stack:
    """Have the image in ``path`` in the store: unpack those of its layers that are not.

    :param path: a folder or an archive, see :func:`~pytest_isolate.images.source.opened`.
    :raises ImageError: it is no image, or is damaged, or hostile. :raises UnsupportedError: this host can't unpack it.
    """
    with opened(path) as (source, image):
        known = store.image(image.digest)
        if known is not None and os.path.realpath(path) in known.sources:
            return known
        chain = chain_ids(layer.diff_id for layer in image.layers)
        with store.shared():
            missing = [number for number, each in enumerate(chain) if store.layer(each) is None]
            with Jail() if missing else nullcontext() as jail:
                for number in missing:
                    blob = image.layers[number]
                    tell(f"unpacking layer {number + 1} of {len(chain)} ({blob.diff_id[7:19]})")
                    assert jail is not None
                    with source.open(blob.name) as file:
                        tar = tar_of(blob, file)
                        install_layer(jail, store, tar, chain[: number + 1], blob.diff_id, image=path, most=most)
            stack = Stack(digest=image.digest, layers=tuple(chain), env=image.env, sources=(os.path.realpath(path),))
            store.register(stack)
    return stack


def root(path: str, host: Host, *, places: Iterable[str], writable: Sequence[str]) -> Root:
    """The image in the folder ``path`` as a root for tests of this process; unpacked now, if it was not yet.

    :raises ImageError: if it cannot be used.
    """
    name, folder = os.path.basename(path), os.path.dirname(path)
    if problem := image_names.problem(name, folder):
        raise ImageError(name, problem)
    store = Store()
    stack = store.image(recipe.digest(path)) if recipe.exists(path) else install(path, store)
    if stack is None:  # a test must not fetch packages, nor wait for what may take minutes
        raise ImageError(name, f"is not built yet: python -m pytest_isolate images build {name}")
    import_module("pytest_isolate.images.settle")  # for the test's process, which has the image under it
    return root_of(stack, store, name=name, places=places, writable=writable, real_root=host.real_root)


def install_layer(
    jail: Jail, store: Store, tar: Iterable[bytes], chain: list[str], diff_id: str, *, image: str, most: Most | None
) -> None:
    """Unpack one layer from its tar. :param chain: its chain id, after those of the layers below.

    :raises ImageError: it is refused; the error names ``image``.
    """
    *below, own = chain
    with store.adding(own) as tree:
        if tree is None:
            return  # another process was faster
        lowers = [os.open(store.tree(each), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for each in reversed(below)]
        most = most or Most()
        unpacker = untar.Unpacker(lowers=lowers, owners=jail.owners, most_bytes=most.size, most_entries=most.entries)
        try:
            with jail.running(tree, _unpacking(unpacker), keep=lowers) as running:
                running.feed(tar)
                found = running.result()
        except untar.HostileError as error:
            raise ImageError(image, f"its layer {diff_id} is refused: {error}.") from error
        if jail.owners:
            _mark_for_root(tree, found["opaque"])
        del found["opaque"]
        store.publish(
            tree,
            Layer(
                chain=own,
                diff_id=diff_id,
                parent=below[-1] if below else None,
                owners=jail.owners,
                left_out=tuple((str(what), int(number)) for what, number in found.pop("left_out")),
                **found,
            ),
        )


def _mark_for_root(tree: str, opaque: Iterable[str]) -> None:
    """Give opaque directories the attribute that root's overlays look for, which only the host's root may set.

    No link is followed on the way: the tree is what an image made it.
    """
    for path in opaque:
        here = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path.split("/")[1:]:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = below
            if OPAQUE in os.listxattr(here):
                os.setxattr(here, _TRUSTED, b"y")
        except (FileNotFoundError, NotADirectoryError):  # replaced by what came later in the tar
            pass
        finally:
            os.close(here)


def _unpacking(unpacker: untar.Unpacker) -> Callable[[Fd], object]:
    def unpack(reader: Fd) -> object:
        with open(reader, "rb", 0) as file:
            unpacker.unpack(file)
            while file.read(1 << 18):  # behind the archive's end: it counts for the digest outside
                pass
        return {
            "entries": unpacker.entries,
            "size": unpacker.size,
            "opaque": sorted(unpacker.opaque),
            "left_out": sorted(unpacker.left_out.items()),
            "tree": untar.tree_digest(),
        }

    return unpack


def verify(jail: Jail, store: Store, chain: str) -> bool:
    """Whether a layer's tree is as it was unpacked."""
    layer = store.layer(chain)
    if layer is None:
        return False
    with jail.running(store.tree(chain), lambda _: untar.tree_digest()) as running:
        return bool(running.result() == layer.tree)
