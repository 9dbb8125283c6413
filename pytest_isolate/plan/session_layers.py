"""In a session sandbox: its layers, and what it has mounted below them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import Mount, below

#: Where its layers are shown one by one, for the layers of sandboxes above it (session_plan.py).
SESSION = "/.isolate-session"
#: Where scratch space on disk is for those sandboxes, if that of the session is on disk.
DISK = f"{SESSION}/disk"
#: Option of an overlay of a session sandbox, which was mounted while its scratch space was /s.
_UPPER = "upperdir=/s/u"


def find(mounts: Iterable[Mount]) -> dict[str, str]:
    """By mount point, the directory of :data:`SESSION` that has the layer; nothing outside of a session sandbox."""
    points = {mount.point for mount in mounts}
    if SESSION not in points:
        return {}
    found = {}
    for mount in mounts:
        upper = next((each for each in mount.options if each.startswith(_UPPER)), None)
        number = (upper or "").removeprefix(_UPPER)
        if mount.kind == "overlay" and f"{SESSION}/{number}" in points:  # all but one, see session_plan.py
            found[mount.point] = number
    return found


def traps(mounts: Iterable[Mount], layers: Mapping[str, str]) -> Iterator[str]:
    """What a user's session has mounted below its layers: further ones, for traps, and what it binds through.

    It becomes traps (:class:`~pytest_isolate.plan.host_tree.HostTree`) in sandboxes above. Taken for mounts, they would
    have the layer around them shown piece by piece, and the pieces are no layers of the session's: overlays of them
    would be a third one on top of each other where the root is one, and are refused.
    """
    tops = {mount.point for mount in mounts if mount.point in layers and "userxattr" in mount.options}
    for mount in mounts:
        top = max((point for point in tops if below(mount.point, point)), key=len, default=None)
        if top and (mount.point in tops or _is_bound_through(mount.point, top, layers[top])):
            yield mount.point


def _is_bound_through(path: str, top: str, number: str) -> bool:
    """Whether what is mounted at ``path`` is the same file that the session's layer at ``top`` covers there."""
    with suppress(OSError):
        return os.path.samestat(calls.lstat(path), calls.lstat(f"{SESSION}/{number}{path.removeprefix(top)}"))
    return False
