"""Have an image's layers in the store: unpack those that are missing, in a jail."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from pytest_isolate.images.oci.layer_stream import tar_of
from pytest_isolate.images.oci.layout_reader import open_image
from pytest_isolate.images.store.store import Stack, Store, chain_ids
from pytest_isolate.images.store.unpack import Most, Tell, install_layer
from pytest_isolate.sandbox.jail import Jail, own_jail


def install(
    path: str,
    store: Store,
    *,
    most: Most | None = None,
    tell: Tell = lambda _: None,
    open_jail: Callable[[], AbstractContextManager[Jail]] = own_jail,
) -> Stack:
    """Have the image in ``path`` in the store: unpack those of its layers that are not.

    :param path: a folder or an archive, see :func:`~pytest_isolate.images.oci.layout_reader.open_image`.
    :param open_jail: makes the jail to unpack in, if there is something to unpack.
    :raises ImageError: it is no image, or is damaged, or hostile. :raises UnsupportedError: this host can't unpack it.
    """
    with open_image(path) as (source, image):
        known = store.image(image.digest)
        if known is not None and os.path.realpath(path) in known.sources:
            return known
        chain = chain_ids(layer.diff_id for layer in image.layers)
        with store.lock_shared():
            missing = [number for number, each in enumerate(chain) if store.layer(each) is None]
            with open_jail() if missing else nullcontext() as jail:
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
