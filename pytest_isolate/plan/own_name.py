"""The sandbox's own host name gets an address: lines for it at the end of /etc/hosts (hosts(5)).

The file lies in a writable layer before that is mounted. A mount would do for those who read it, but could not be
renamed over or removed (EBUSY), which ``sed -i`` and ``rm -r /etc`` do.
"""

from __future__ import annotations

import os
from collections.abc import Container
from typing import NamedTuple

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host_tree import SMALL, Entry, entry_at
from pytest_isolate.plan.operations import OLD, Op

FOLDER, FILE = "/etc", "/etc/hosts"
Stamp = tuple[int, int]


class HostsFile(NamedTuple):
    """The host's own."""

    entry: Entry  #: the file that /etc/hosts leads to
    folder: Entry  #: /etc
    text: str
    stamp: Stamp


def look() -> HostsFile | None:
    """The host's file; None if there is none that a small copy could be made of."""
    folder, entry, stamp = entry_at(FOLDER), entry_at(os.path.realpath(FILE)), look_at_stamp()
    if folder is None or folder.kind != "directory" or entry is None or entry.kind != "file" or stamp is None:
        return None
    if entry.size > SMALL or not entry.access & 4:
        return None
    return HostsFile(entry=entry, folder=folder, text=files.read_text(entry.path), stamp=stamp)


def look_at_stamp() -> Stamp | None:
    """What tells that the file is another one than before; None if it is not there."""
    try:
        status = calls.stat(FILE)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def lines_for(name: str, text: str) -> str:
    """What to put at the end of ``text``; "" if it has ``name``.

    At the end, as the name that an address is found to have is that of its first line: ``localhost``.
    """
    words = [line.partition("#")[0].lower().split()[1:] for line in text.splitlines()]
    if any(name.lower() in names for names in words):
        return ""
    return f"{'' if text.endswith(chr(10)) else chr(10)}127.0.0.1\t{name}\n::1\t{name}\n"


class OwnName(NamedTuple):
    """The sandbox's file, for the view of the host's tree."""

    source: str  #: the host's file
    mode: int
    owner: tuple[int, int]
    lines: str  #: what is added
    folder: Entry
    layer: str  #: "/" or "/etc": the overlay that /etc/hosts is in; "" if it is a mount

    def copy_to(self, path: str) -> list[Op]:
        """Make the file at ``path``."""
        return [do.copy(OLD + self.source, path, self.mode, more=self.lines), *_give(path, self.owner)]

    def put_in(self, upper: str) -> list[Op]:
        """Put the file into the upper directory of its overlay."""
        if self.layer == FOLDER:
            return self.copy_to(f"{upper}/hosts")
        etc = upper + FOLDER
        return [do.mkdir(etc, self.folder.mode), *_give(etc, self.folder.owner), *self.copy_to(f"{etc}/hosts")]


def own_name(name: str, hosts: HostsFile | None, mounts: Container[str], access: int | None) -> OwnName | None:
    """What to do for ``name``; None if it has an address, or can't be given one.

    :param mounts: what is mounted.
    :param access: what the test may do to the file as its owner, who is its user; None: it belongs to the host's.
    """
    lines = lines_for(name, hosts.text) if hosts else ""
    if hosts is None or not lines:
        return None
    entry = hosts.entry
    layer = "" if FILE in mounts else FOLDER if FOLDER in mounts or access is not None else "/"
    return OwnName(
        source=entry.path,
        mode=entry.mode if access is None else entry.mode_for_owner(access),
        owner=entry.owner if access is None else (0, 0),
        lines=lines,
        folder=hosts.folder,
        layer=layer,
    )


def _give(path: str, owner: tuple[int, int]) -> list[Op]:
    return [] if owner == (0, 0) else [do.chown(path, *owner)]
