"""Brings images into the store: each layer streamed from its source, checked, and unpacked in a jail.

While the fork in the jail unpacks, this process reads the source, decompresses and compares digests. A layer that is
refused leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from pytest_isolate.images.store import tree_digest, untar
from pytest_isolate.images.store.store import Store, StoredLayer
from pytest_isolate.linux.native import Fd
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.linux.overlayfs import is_opaque, make_opaque
from pytest_isolate.sandbox.jail import Jail
from pytest_isolate.spec.errors import ImageError

#: Shows the user what is being done.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """Limits on one layer."""

    size: int = untar.MOST_BYTES  #: bytes in its files
    entries: int = untar.MOST_ENTRIES


def install_layer(
    jail: Jail, store: Store, tar: Iterable[bytes], chain: list[str], diff_id: str, *, image: str, most: Most | None
) -> None:
    """Unpack one layer from its tar. :param chain: its chain id, after those of the layers below.

    :raises ImageError: it is refused; the error names ``image``.
    """
    *below, own = chain
    with store.add_layer(own) as tree:
        if tree is None:
            return  # another process was faster
        lowers = [os.open(store.tree(each), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for each in reversed(below)]
        most = most or Most()
        unpacker = untar.Unpacker(lowers=lowers, owners=jail.owners, most_bytes=most.size, most_entries=most.entries)
        try:
            with jail.run(tree, _make_task(unpacker), refusal=untar.HostileError, keep=lowers) as jailed:
                jailed.feed(tar)
                found = jailed.result()
        except untar.HostileError as error:
            raise ImageError(image, f"its layer {diff_id} is refused: {error}.") from error
        if jail.owners:
            _mark_for_root(tree, found["opaque"])
        del found["opaque"]
        store.publish(
            tree,
            StoredLayer(
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
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in opaque:
            with suppress(FileNotFoundError, NotADirectoryError):  # replaced by what came later in the tar
                directory = open_directory(top, path.split("/")[1:])
                try:
                    if is_opaque(directory):
                        make_opaque(directory, trusted=True)
                finally:
                    os.close(directory)
    finally:
        os.close(top)


def _make_task(unpacker: untar.Unpacker) -> Callable[[Fd], object]:
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
            "tree": tree_digest.tree_digest(),
        }

    return unpack


def verify(jail: Jail, store: Store, chain: str) -> bool:
    """Whether a layer's tree is as it was unpacked."""
    layer = store.layer(chain)
    if layer is None:
        return False
    with jail.run(store.tree(chain), lambda _: tree_digest.tree_digest(), refusal=untar.HostileError) as jailed:
        return bool(jailed.result() == layer.tree)
