"""The processes beside a pytest: none is its child, but each has ``for=PID`` on its command line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def helpers_of(pid: int, word: bytes) -> list[int]:
    """Those with ``word`` on their command line; PID 1 of a sandbox has the builder's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # one may end while it is looked at
            line = (entry / "cmdline").read_bytes()
            if word in line and f"for={pid}".encode() in line.split(b"\0"):
                found.append(int(entry.name))
    return found


def builders_of(pid: int) -> list[int]:
    """Its builder; with bridges and without root, two."""
    return [each for each in helpers_of(pid, b"isolate-builder") if _name(each) == "builder\n"]


def _name(pid: int) -> str:
    with suppress(OSError):  # it may have ended meanwhile
        return Path(f"/proc/{pid}/comm").read_text()
    return ""
