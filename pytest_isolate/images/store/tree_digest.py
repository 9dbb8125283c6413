"""A digest of an unpacked tree, by which ``images verify`` finds what was changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping

_PIECE = 1 << 18


def tree_digest(root: str = "/") -> str:
    """One digest of all that a layer's tree is: names, kinds, owners, modes, times of files, contents, whiteouts."""
    total = hashlib.sha256()
    for line in _lines(root):
        total.update(line)
    return f"sha256:{total.hexdigest()}"


def _lines(folder: str) -> Iterator[bytes]:
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        status = os.lstat(path)
        facts: list[object] = [os.fsencode(path), status.st_mode, status.st_uid, status.st_gid, status.st_rdev]
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = hashlib.sha256()
                while piece := file.read(_PIECE):
                    content.update(piece)
            facts += [status.st_mtime_ns, content.hexdigest()]
        elif stat.S_ISLNK(status.st_mode):
            facts.append(os.fsencode(os.readlink(path)))
        elif stat.S_ISDIR(status.st_mode):
            facts.append(_attributes_of(path))
        yield repr(facts).encode() + b"\n"
        if stat.S_ISDIR(status.st_mode):
            yield from _lines(path)


def _attributes_of(path: str) -> Mapping[str, bytes]:
    return {name: os.getxattr(path, name) for name in sorted(os.listxattr(path)) if name.startswith("user.")}
