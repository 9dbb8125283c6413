"""What ``kept list`` and ``kept diff`` print."""

from __future__ import annotations

import difflib
import io
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_isolate.images.root.merged_tree import Merged
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.session.kept.store import Entry
from pytest_isolate.spec.sizes import size_text

_MOST = 1 << 20  #: bytes of a file whose lines are compared
_HEAD = ("ID", "WHEN", "RESULT", "SIZE", "FILES", "IMAGE", "TEST")


def table(entries: Iterable[Entry]) -> list[str]:
    """One line for each entry, under a head."""
    rows = [_HEAD, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(entry: Entry) -> tuple[str, ...]:
    layer = entry.layer
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.when))
    size, files = size_text(layer.size, 1), str(len(layer.changes))
    return (entry.id, when, layer.result, size, files, layer.image or "-", escaped(layer.test))


def escaped(text: str) -> str:
    """``text`` without what a terminal would act on: the test chose it."""
    return "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in text)


def differences(entry: Entry, paths: tuple[str, ...]) -> Iterator[str]:
    """Lines that say what the test changed, against what the host, or the image, has now.

    :param paths: files, and folders with all in them; none: everything.
    """
    for kind, path in entry.layer.changes:
        if not paths or any(path == each or below(path, each) for each in paths):
            yield from _difference(entry, kind, path)


def _difference(entry: Entry, kind: str, path: str) -> Iterator[str]:
    name = escaped(path)
    old = None if kind == "A" else _look(*os.path.split(_original(entry, path)))
    new = None if kind == "D" else _look_inside(entry.path / "files", path)
    if kind != "D" and new is None:
        lost = (each for each in entry.layer.lost if each.startswith(f"{path}: "))
        yield escaped(next(lost, f"{path}: is not kept"))
    elif kind == "D" and old is None:
        yield f"removed {name}, which is not there any more"
    elif old == new:
        yield f"mode or owner of {name} changed"
    elif isinstance(old, str) or isinstance(new, str):
        was, now = ("file" if isinstance(each, bytes) else each or "?" for each in (old, new))
        yield {"A": f"added {now} {name}", "D": f"removed {was} {name}"}.get(kind, f"{name} was {was}, now {now}")
    elif (texts := _texts(old, new)) is None:
        sizes = " -> ".join("nothing" if each is None else f"{len(each)} bytes" for each in (old, new))
        yield f"binary file {name}: {sizes}"
    else:
        heads = ("/dev/null" if kind == "A" else f"a{name}", "/dev/null" if kind == "D" else f"b{name}")
        yield from _unified(*texts, *heads)


def _texts(*contents: bytes | None) -> tuple[list[str], list[str]] | None:
    """Lines of two files; None if one is no text, or too long."""
    try:
        if any(each and (b"\0" in each or len(each) > _MOST) for each in contents):
            return None
        old, new = (io.StringIO((each or b"").decode(), newline="\n").readlines() for each in contents)
    except UnicodeDecodeError:
        return None
    return old, new


def _unified(old: list[str], new: list[str], old_name: str, new_name: str) -> Iterator[str]:
    if not old and not new:
        yield f"empty file {old_name if new_name == '/dev/null' else new_name}"
    for line in difflib.unified_diff(old, new, old_name, new_name):
        yield escaped(line.removesuffix("\n"))
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _original(entry: Entry, path: str) -> str:
    """Where the host has what the test saw at ``path`` before it changed that."""
    covering = [each for each in entry.layer.layers if path == each[0] or below(path, each[0])]
    lowers = max(covering, key=lambda each: len(each[0]))[1] if covering else ()
    if not lowers:
        return path
    found = Merged(lowers).at(path)
    return "" if found is None else found.real[0]


def _look_inside(files: Path, path: str) -> str | bytes | None:
    top = calls.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *way, name = path.strip("/").split("/")
        folder = open_directory(top, way)
        try:
            return _look(f"/proc/self/fd/{folder}", name)
        finally:
            calls.close(folder)
    except OSError:
        return None
    finally:
        calls.close(top)


def _look(folder: str, name: str) -> str | bytes | None:
    """The content of a file, or what else is there; None if there is nothing, or nobody may read it."""
    path = os.path.join(folder, name)
    try:
        status = calls.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            return "folder"
        if stat.S_ISLNK(status.st_mode):
            return f"link (to {escaped(calls.readlink(path))})"
        if not stat.S_ISREG(status.st_mode):
            return "special file"
        with open(calls.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read()
    except OSError:
        return None
