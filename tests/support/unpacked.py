"""Layers unpacked in the jail."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pytest_isolate.images.build.install import install
from pytest_isolate.images.root.merged_tree import Merged
from pytest_isolate.images.store.store import Store, StoredLayer
from pytest_isolate.images.store.unpack import Most
from pytest_isolate.spec.errors import ImageError
from tests.support.image_layers import entry, layout, tar


def unpacked(store: Store, *layers: bytes, most: Most | None = None) -> Merged:
    """The tree of an image of ``layers``, the lowest first."""
    folder = store.path.parent / f"image{len(list(store.path.parent.iterdir()))}"
    stack = install(str(layout(folder, *layers)), store, most=most)
    return Merged([store.tree(chain) for chain in reversed(stack.layers)])


def listed(merged: Merged) -> dict[str, str]:
    """Every path, with the content of files, the target of links, and the kind of the rest."""
    found = {}
    for path, each in merged.walk():
        if each.is_link:
            found[path] = "-> " + os.readlink(each.real[0])
        elif stat.S_ISREG(each.status.st_mode):
            found[path] = Path(each.real[0]).read_text()
        else:
            found[path] = stat.filemode(each.status.st_mode)[0]
    return found


def refused(store: Store, *layers: bytes, most: Most | None = None) -> str:
    """Why an image of ``layers`` is refused; nothing of the layer is left."""
    with pytest.raises(ImageError) as caught:
        unpacked(store, *layers, most=most)
    assert len(store.layers()) < len(layers)
    assert store.images() == []
    assert os.listdir(store.path / "tmp") == []
    return str(caught.value)


def layer_of(store: Store) -> StoredLayer:
    layer = store.layer(store.layers()[0])
    assert layer is not None
    return layer


BASE = tar(
    entry("etc/", mode=0o750),
    entry("etc/kept", "1"),
    entry("etc/gone", "2"),
    entry("tree/"),
    entry("tree/deep/"),
    entry("tree/deep/file", "3"),
    entry("file", "4"),
)
GONE = entry(".wh.tree", "")
