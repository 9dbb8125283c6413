"""Where an exception was raised in one process, shown by another: places in files as plain data, and back."""

from __future__ import annotations

import ast
import linecache
import re
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, FunctionType, TracebackType

from pytest_isolate.sandbox import child

Place = tuple[str, int, str]  #: file, line, function
_DUMPED = re.compile(r'^  File "(.*)", line (\d{1,9}) in (.*)$', re.MULTILINE)
_CURRENT = re.compile(r"^Current thread 0x.*$", re.MULTILINE)  # not that of the C stack, which Python 3.14 adds


def places(error: BaseException) -> list[Place]:
    """Of the frames that pytest shows, outermost first."""
    walk = traceback.walk_tb(error.__traceback__)
    shown = [(frame, line) for frame, line in walk if not frame.f_locals.get("__tracebackhide__")]
    return [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in shown]


def places_of_dump(stacks: str) -> list[Place]:
    """Of the thread that faulthandler's last dump calls the current one; outermost first."""
    current = _CURRENT.split(stacks)[1:]  # the test's own children write theirs into the same file, and go on
    found = _DUMPED.findall(current[-1].partition("\n\n")[0]) if current else ()
    return [(path, int(line), name) for path, line, name in reversed(found)]


def shorten(stacks: str, machinery: Iterable[str]) -> str:
    """Cut from faulthandler's dump the frames that each test has outside of its own, and say how many.

    :param machinery: folders of the code that runs tests.
    """
    lines = stacks.splitlines()
    ours = re.compile(f'  File "{re.escape(child.__file__)}", line .* in run')
    found = [number for number, line in enumerate(lines) if ours.fullmatch(line)]
    if not found:
        return stacks  # the dump is of another process, or ends before: it has the 100 innermost frames
    first = last = found[0]
    outside = tuple(f'  File "{folder}/' for folder in machinery)
    while first and lines[first - 1].startswith(outside):
        first -= 1
    while last + 1 < len(lines) and lines[last + 1].startswith("  File "):
        last += 1
    lines[first : last + 1] = [f"  ... {last + 1 - first} frames of pytest; --full-trace shows them"]
    return "\n".join(lines)


def find_function(path: str, line: int, name: str | None = None) -> tuple[int, Place] | None:
    """Find in the source the innermost function that has this line.

    :param name: of the function; None: any.
    :return: its first line, with its decorators, as its code object has it; the place of its ``def``. None if the file
        cannot be read, is no Python, or has none there.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # whatever a file may hold
        return None
    found = None
    for node in ast.walk(tree):  # outer ones first
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and name in (None, node.name):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= line <= (node.end_lineno or first):
                found = first, (path, node.lineno, node.name)
    return found


def make_traceback(found: Iterable[Place]) -> TracebackType | None:
    """Make a traceback that leads through these places, as far as readers of files and lines can tell."""
    following = None
    for path, line, name in reversed([*found]):
        # No instruction: Python and pytest would mark the columns that the stand-in's has.
        following = TracebackType(following, _frame(path, line, name), -1, line)
    return following


def _frame(path: str, line: int, name: str) -> FrameType:
    def stand_in() -> Iterator[None]:
        yield

    function = find_function(path, line, name)
    first = line if function is None else function[0]
    code = stand_in.__code__.replace(co_filename=path, co_firstlineno=first, co_name=name)
    frame: FrameType = FunctionType(code, {})().gi_frame  # only a generator has one without running
    return frame
