"""Threads of pytest's process, which no sandbox has: how they are called, and which fixture has started each.

Python lists those of :mod:`threading`. Those that :mod:`_thread` has started have only a frame, and those of libraries
are known to the kernel alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from types import FrameType

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures

_LOOKS = 10  # a millisecond apart: threads of libraries are waited for in vain, once in each set-up that starts some


class SessionThreads:
    """Remembers which fixture has started a thread."""

    def __init__(self, first: tuple[frozenset[str], frozenset[int]] = (frozenset(), frozenset())) -> None:
        """:param first: see :data:`pytest_isolate.plugin.fixtures.FIRST_THREADS`."""
        self._first_tasks, self._first = first
        self._before = frozenset(calls.frames())
        self._owners: dict[int | str, str] = {}  # names of fixtures, by the number that Python has, and the kernel

    def note_collected(self) -> None:
        """After collection: what modules have started is of no test, and of no fixture."""
        self._before = frozenset(calls.frames())

    @contextmanager
    def started_by(self, fixture: str) -> Iterator[None]:
        """What is started meanwhile is the fixture's."""
        tasks, threads = fixtures.list_threads(), calls.frames().keys()
        try:
            yield
        finally:
            new = fixtures.list_threads() - tasks
            if new:
                self._owners |= dict.fromkeys(new, fixture)
                self._owners |= dict.fromkeys(_await(len(new), threads), fixture)

    def may_log(self) -> bool:
        """Whether there are threads that run Python, beside those that modules have started when they were imported."""
        return not self._before.issuperset(calls.frames())

    def missing(self) -> dict[str, str | None]:
        """Names of all threads that a sandbox lacks, each with the fixture that started it, if one did.

        Where two fixtures have started threads of one name, that of the second is followed by the name of the fixture.
        """
        names = {thread.ident: thread.name for thread in calls.threads()}
        found = [
            (names.get(ident) or f"{_function(frame)} (_thread)", self._owners.get(ident))
            for ident, frame in calls.frames().items()
            if ident not in self._first
        ]
        missing: dict[str, str | None] = {}
        for name, fixture in [*found, *((name, self._owners.get(task)) for task, name in self._find_native())]:
            other = missing.get(name)
            key = f"{name} of {fixture}" if fixture and other not in (None, fixture) else name
            missing[key] = missing.get(key) or fixture
        return missing

    def native(self) -> list[str]:
        """Names of those that Python does not know."""
        return [name for _, name in self._find_native()]

    def _find_native(self) -> list[tuple[str, str]]:
        """Number, as the kernel has it, and name of each. Nobody tells which are those of :mod:`_thread`."""
        threads = calls.threads()
        # Those of eventlet, which replaces the class of the main thread's object, have no such attribute.
        known = {str(getattr(thread, "native_id", None)) for thread in threads} | self._first_tasks
        # In a process that was forked, the main thread's object has the number that its parent's had.
        known.add(str(calls.getpid()))
        tasks = sorted(fixtures.list_threads() - known, key=int)
        low_level = len(calls.frames().keys() - self._first - {thread.ident for thread in threads})
        process = _read_name("self")
        found = []
        for task, name in ((task, _read_name(f"self/task/{task}")) for task in tasks):
            if name == process and low_level:  # the process's own is what it has without one
                low_level -= 1
            else:
                found.append((task, "one without a name (native)" if name == process else f"{name} (native)"))
        return found


def _await(number: int, before: AbstractSet[int]) -> set[int]:
    """Those of the threads just started that run Python. One that :mod:`_thread` has started may not have begun yet."""
    for _ in range(_LOOKS):
        if len(calls.frames().keys() - before) >= number:
            break
        calls.sleep(0.001)
    return calls.frames().keys() - before


def _function(frame: FrameType) -> str:
    """Name of the function that the thread was started with."""
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name


def _read_name(of: str) -> str:
    with suppress(OSError):
        return files.read_text(f"/proc/{of}/comm").strip()
    return ""
