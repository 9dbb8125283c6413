"""What a failed test misses of files that an earlier test changed: its sandbox is gone, and they with it."""

from __future__ import annotations

import errno
import itertools
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_isolate.linux.calls import calls

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Change

#: An earlier test, and what it changed; in the order of running.
Changed = tuple[str, Sequence["Change"]]
_MISSING = calls.strerror(errno.ENOENT)
_IN_THE_WAY = (calls.strerror(errno.EEXIST), calls.strerror(errno.ENOTEMPTY))
#: What a message names: in quotes, as Python does, or before its colon, as programs do.
_NAME = re.compile(rf"'([^'\n]+)'|\"([^\"\n]+)\"|([^\s:'\"]+): {_MISSING}")
_MODULE = re.compile(r"No module named '([\w.]+)'")
#: Of SQLite; the message does not say in which file.
_TABLE = re.compile(r"no such (table|column|index|view): [\w.]+")
_DATABASE = re.compile(r"\.(db|db3|sqlite|sqlite3)$")
_ASSERTION = re.compile(r"E\s")  # how pytest begins such a line
_SHOWN = 3
_WORDS = {"A": "made", "M": "changed", "D": "removed"}
_WAYS = (
    "Let a higher-scoped fixture do that, keep what is written there by writable=[{folder!r}], "
    "or make the two one test."
)
_LONGEST = 2000  # characters of a line that are looked at
_MOST = 100  # names


def hints(text: str, changed: Sequence[Changed], own: Collection[str]) -> list[str]:
    """Sentences on files that ``text``, a traceback and output, names.

    :param own: paths that the failed test changed itself.
    """
    found: dict[str, str] = {}  # path -> sentence
    for candidates, kinds in itertools.islice(_wanted(text), _MOST):
        for wanted in candidates:  # one sentence for the nearest that is known
            if told := _find(wanted, kinds, changed, own):
                found.setdefault(*told)
                break
    return [*found.values()][:_SHOWN]


def _find(
    wanted: Callable[[str], bool], kinds: str, changed: Sequence[Changed], own: Collection[str]
) -> tuple[str, str] | None:
    for test, changes in reversed(changed):
        for change in changes:
            excused = change.path in own and wanted is not _is_database  # which SQLite makes, empty, to look into it
            if change.kind in kinds and not excused and wanted(change.path):
                return change.path, _tell(test, changes, change)
    return None


def _tell(test: str, changes: Sequence[Change], change: Change) -> str:
    where = "in a sandbox that is gone now" if change.kind == "A" else "in its own sandbox only"
    made = {each.path for each in changes if each.kind == "A"}
    folder = posixpath.dirname(change.path)
    while folder in made:  # what writable= names must be there before
        folder = posixpath.dirname(folder)
    return f"{change.path} was {_WORDS[change.kind]} by {test}, {where}. {_WAYS.format(folder=folder)}"


def _wanted(text: str) -> Iterator[tuple[list[Callable[[str], bool]], str]]:
    """What to look for, the nearest first, and which kinds of changes explain that it is not there, or is."""
    for line in (whole[:_LONGEST] for whole in text.splitlines()):
        if _MISSING in line:
            for name in _names(line):  # that a folder above it is missing explains it as well
                yield [_named(each) for each in _with_parents(name)], "A"
        elif any(words in line for words in _IN_THE_WAY):
            yield from (([_named(name)], "D") for name in _names(line))
        elif module := _MODULE.search(line):
            path = module[1].replace(".", "/")
            yield [_named(f"{path}.py"), _named(path)], "A"
        elif _TABLE.search(line):
            yield [_is_database], "AM"
        elif _ASSERTION.match(line):
            yield from (([_named(name)], "AMD") for name in _names(line) if re.search(r"[/.]", name))


def _is_database(path: str) -> bool:
    return _DATABASE.search(path) is not None


def _named(name: str) -> Callable[[str], bool]:
    """Whether a path is what a message names: the whole of it, or its end if the name is relative."""
    if name.startswith("/"):
        return name.__eq__
    return lambda path: path.endswith(f"/{name}")


def _names(line: str) -> Iterator[str]:
    for match in _NAME.finditer(line):
        name = posixpath.normpath(match[match.lastindex or 0])
        if not name.startswith((".", "//")) and name != "/":
            yield name


def _with_parents(name: str) -> Iterator[str]:
    while name not in ("", "/"):
        yield name
        name = posixpath.dirname(name)
