"""An image as a root for this process's tests: found in the store, or unpacked into it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib import import_module

from pytest_isolate.images.build import recipe
from pytest_isolate.images.build.install import install
from pytest_isolate.images.root.root_layout import root_of
from pytest_isolate.images.store.store import Store
from pytest_isolate.plan.host import Host
from pytest_isolate.plan.image_root import ImageRoot
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.sandbox.jail import Jail
from pytest_isolate.spec import image_names
from pytest_isolate.spec.errors import ImageError


def root(path: str, builder: Builder, host: Host, *, folders: Iterable[str], writable: Sequence[str]) -> ImageRoot:
    """The image in the folder ``path`` as a root for tests of this process; unpacked now, if it was not yet.

    :param builder: of this process, for a jail to unpack in.
    :raises ImageError: if it cannot be used.
    """
    name, folder = os.path.basename(path), os.path.dirname(path)
    if problem := image_names.problem(name, folder):
        raise ImageError(name, problem)
    store = Store()
    if recipe.exists(path):
        stack = store.image(recipe.digest(path))
    else:
        stack = install(path, store, open_jail=lambda: nullcontext(Jail(builder, host)))
    if stack is None:  # a test must not fetch packages, nor wait for what may take minutes
        raise ImageError(name, f"is not built yet: python -m pytest_isolate images build {name}")
    import_module("pytest_isolate.images.root.child_setup")  # for the test's process, which has the image under it
    return root_of(stack, store, name=name, folders=folders, writable=writable, real_root=host.real_root)
