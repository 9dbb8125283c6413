"""Unix sockets of a session sandbox in those of its tests: the servers of fixtures, by path. Pure."""

from __future__ import annotations

import os
from collections.abc import Collection

from pytest_isolate.linux.mountinfo import below
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host_tree import KERNEL, SHM, HostTree
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.rootfs import NEW


def show(tree: HostTree, *, rootless: bool, writable: Collection[str]) -> list[Op]:
    """Bind them, as the kernel finds a server by the inode of its file, and a layer above has another one.

    :param rootless: in the layout of :func:`rootfs.piecewise`, where directories with mounts below show no sockets.
    :param writable: paths that are bound through, sockets and all.
    """
    ops: list[Op] = []
    for path, _ in sorted(tree.sockets):
        if any(below(path, top) for top in (*tree.left_out, *writable)) or not _is_covered(path, tree):
            continue
        folder = os.path.dirname(path)
        if rootless and any(below(mount.point, folder) for mount in tree.mounts):
            ops.append(do.touch(NEW + path))
        ops.append(do.bind(OLD + path, NEW + path))
    return ops


def _is_covered(path: str, tree: HostTree) -> bool:
    """Whether a layer is over it: of what is made anew in each sandbox over shared memory alone, and not everywhere."""
    if below(path, SHM):
        return tree.shared_memory is not None and SHM not in tree.refused
    return not any(below(path, top) for top in KERNEL)
