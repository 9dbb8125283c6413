"""Builds an image from its recipe: each layer as a tar, unpacked as one that comes from elsewhere would be.

What is built is known by all that the recipe says, so that a second build of the same recipe finds it and does nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from pytest_isolate.images.build import debian_packages, recipe
from pytest_isolate.images.build.install import install
from pytest_isolate.images.build.layer_tar import write_archive, write_changes, write_files
from pytest_isolate.images.build.recipe import LayerRecipe
from pytest_isolate.images.oci.layout_reader import open_image
from pytest_isolate.images.root.root_layout import root_of
from pytest_isolate.images.store.store import Stack, Store, chain_ids
from pytest_isolate.images.store.unpack import Most, Tell, install_layer
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.sandbox.jail import Jail, own_jail
from pytest_isolate.spec import image_names
from pytest_isolate.spec.errors import ImageError
from pytest_isolate.spec.spec import Spec

_PIECE = 1 << 18


def identity(path: str) -> str:
    """The digest by which the store knows the image in ``path``. :raises ImageError: if there is none."""
    if recipe.exists(path):
        return recipe.digest(path)
    with open_image(path) as (_, image):
        return image.digest


def bring_in(path: str, store: Store, *, most: Most, tell: Tell) -> Stack:
    """Have the image in the folder ``path`` in the store, built or unpacked.

    :raises ImageError: it can't be. :raises UnsupportedError: this host can't do it.
    """
    if not recipe.exists(path):
        return install(path, store, most=most, tell=tell)
    if (known := store.image(recipe.digest(path))) is not None:
        return known
    made = recipe.read(path)
    base = Stack(digest="", layers=(), env=(), sources=())
    if made.base is not None:
        folder = os.path.dirname(path)
        if problem := image_names.problem(made.base, folder):
            raise ImageError(path, f"base: {problem}")
        base = bring_in(os.path.join(folder, made.base), store, most=most, tell=tell)
    with own_jail() as jail, store.lock_shared():
        build = _Build(os.path.basename(path), jail, store, most, tell, list(base.layers), _diff_ids(store, base))
        for number, layer in enumerate(made.layers, 1):
            tell(f"layer {number} of {len(made.layers)}: {_describe(layer)}")
            build.add(layer)
        env = {**dict(base.env), **dict(made.env)}
        stack = Stack(
            digest=recipe.digest(path),
            layers=tuple(build.chain),
            env=tuple(env.items()),
            sources=(os.path.realpath(path),),
        )
        store.register(stack)
    return stack


def _diff_ids(store: Store, stack: Stack) -> list[str]:
    return [layer.diff_id for chain in stack.layers if (layer := store.layer(chain))]


def _describe(layer: LayerRecipe) -> str:
    if layer.packages:
        return f"packages {' '.join(layer.packages)}"
    if layer.run:
        script = layer.run[layer.run.index("-ec") + 1 :] if "-ec" in layer.run else layer.run
        return f"run {' '.join(script).strip().splitlines()[0]}"
    return f"unpack {os.path.basename(layer.tar)}" if layer.tar else f"{len(layer.files)} entries"


@dataclass(slots=True)
class _Build:
    """An image that is being built."""

    name: str
    jail: Jail
    store: Store
    most: Most
    tell: Tell
    chain: list[str]  #: of the layers so far
    diff_ids: list[str] = field(default_factory=list)

    def add(self, layer: LayerRecipe) -> None:
        """Make one more layer."""
        with tempfile.TemporaryFile() as tar:
            if layer.files:
                write_files(layer.files, tar)
            elif layer.packages:
                with tempfile.TemporaryDirectory() as folder:
                    chosen = debian_packages.as_tar(layer.packages, folder, tar, lowest=not self.chain)
                self.tell(f"fetched {len(chosen)} packages")
            elif layer.tar:
                write_archive(layer.tar, layer.sha256 or "", tar)
            else:
                self._run(layer.run, tar)
            tar.seek(0)
            pieces = hashlib.sha256()
            for piece in iter(lambda: tar.read(_PIECE), b""):
                pieces.update(piece)
            self.diff_ids.append(f"sha256:{pieces.hexdigest()}")
            tar.seek(0)
            self.chain = [*self.chain, chain_ids(self.diff_ids)[-1]]
            content = iter(lambda: tar.read(_PIECE), b"")
            last = self.diff_ids[-1]
            install_layer(self.jail, self.store, content, self.chain, last, image=self.name, most=self.most)

    def _run(self, command: Sequence[str], tar: IO[bytes]) -> None:
        """Run a command as root of a sandbox on the image so far; what it has changed goes to ``tar``."""
        if not self.chain:
            raise ImageError(self.name, f"nothing is in the image yet that could run {command[0]}.")
        stack = Stack(digest="", layers=tuple(self.chain), env=(), sources=())
        host = self.jail.host
        root = root_of(stack, self.store, name=self.name, real_root=host.real_root, bare=True)
        plan = plan_for(Spec.of(user="root"), host, (), root)
        with tempfile.TemporaryFile() as output:
            with self.jail.execute(plan, command, dict(root.env), output.fileno()) as (status, scratch):
                if status == 0:
                    write_changes(f"/proc/self/fd/{scratch}/u0", tar)
            if status:
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()
                raise ImageError(self.name, f"the command {command[-1]!r} ended with status {status}:\n{said}")
