"""Where an exception was raised in one process, shown by another: places in files as plain data, and back."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, FunctionType, TracebackType

from pytest_isolate import guest

Place = tuple[str, int, str]  #: file, line, function

_DUMPED = re.compile(r'^  File "(.*)", line (\d{1,9}) in (.*)$', re.MULTILINE)


def places(error: BaseException) -> list[Place]:
    """Of the frames that pytest shows, outermost first."""
    walk = traceback.walk_tb(error.__traceback__)
    shown = [(frame, line) for frame, line in walk if not frame.f_locals.get("__tracebackhide__")]
    return [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in shown]


def places_of_dump(stacks: str) -> list[Place]:
    """Of the thread that faulthandler's dump calls the current one; outermost first."""
    _, _, current = stacks.partition("Current thread")
    found = _DUMPED.findall(current.partition("\n\n")[0])
    return [(path, int(line), name) for path, line, name in reversed(found)]


def shortened(stacks: str, machinery: Iterable[str]) -> str:
    """What faulthandler dumped, without the frames that each test has outside of its own; they are counted.

    :param machinery: folders of the code that runs tests.
    """
    lines = stacks.splitlines()
    ours = re.compile(f'  File "{re.escape(guest.__file__)}", line .* in run')
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


def traceback_of(found: Iterable[Place]) -> TracebackType | None:
    """A traceback that leads through these places, as far as readers of files and lines can tell."""
    following = None
    for path, line, name in reversed([*found]):
        following = TracebackType(following, _frame(path, line, name), 0, line)
    return following


def _frame(path: str, line: int, name: str) -> FrameType:
    def stand_in() -> Iterator[None]:
        yield

    code = stand_in.__code__.replace(co_filename=path, co_firstlineno=line, co_name=name)
    frame: FrameType = FunctionType(code, {})().gi_frame  # only a generator has one without running
    return frame
