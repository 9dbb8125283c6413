"""Unix sockets of this process's network namespace that are bound to a path, as /proc/net/unix shows them (unix(7))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pytest_isolate.linux import files
from pytest_isolate.linux.procfs import PROC

#: Number, references, protocol, *flags*, *type*, state, *inode*, *path*.
_LINE = re.compile(r"[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ ([0-9A-F]+) ([0-9A-F]+) [0-9A-F]+ +([0-9]+) ([^@].*)", re.DOTALL)
_LISTENING = 0x10000  # __SO_ACCEPTCON of include/uapi/linux/net.h
_DATAGRAM = 2  # SOCK_DGRAM: takes what is sent to its path, and does not listen


def bound(proc: Path = PROC) -> Iterator[tuple[str, int]]:
    """Path and inode of each socket that can be reached by a path; nothing where the kernel does not tell.

    The path is what was bound, and may have gone; a relative one counts from the folder where its process was. Names
    that begin with ``@`` are of no file. A socket that was accepted has that of its listener, and is left out.
    """
    try:
        lines = files.read_text(f"{proc}/self/net/unix").split("\n")[1:]
    except OSError:
        return
    for line in lines:
        # A path may have all characters, and the kernel escapes none: what follows a line feed is no line of the table.
        if (found := _LINE.fullmatch(line)) and _is_server(int(found[1], 16), int(found[2], 16)):
            yield found[4], int(found[3])


def _is_server(flags: int, kind: int) -> bool:
    return bool(flags & _LISTENING) or kind == _DATAGRAM
