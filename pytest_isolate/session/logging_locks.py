"""Keeps logging's handlers still while a process with threads forks.

A thread that is just writing to a file holds the lock of the file's buffer, which CPython gives back in no child: who
writes there is blocked for ever. A thread that logs does so under its handler's lock; so while we have all of those, no
thread has such a buffer's. (It can still be had by one that writes to the file directly.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from weakref import WeakSet

from pytest_isolate.linux.calls import calls

#: Seconds for all. Who has the lock may first have to wait for the interpreter, behind fifty other threads, of which
#: each keeps it for 5 ms, on a machine that is busy as well.
_PATIENCE = 20.0


class Handlers:
    """Those of this process, and which of them are never free."""

    def __init__(self) -> None:
        self._stuck: WeakSet[logging.Handler] = WeakSet()

    def held(self) -> AbstractContextManager[None]:
        """Have the locks of all handlers; left in the child as in the parent.

        But those that are not free in time: a handler may be stuck for reasons of its own, or wait for another's lock.
        After that its lock is taken only where it is free.
        """
        return self._held() if calls.thread_count() else nullcontext()

    @contextmanager
    def _held(self) -> Iterator[None]:
        deadline = calls.monotonic() + _PATIENCE
        taken = []
        try:
            for reference in [*getattr(logging, "_handlerList", ())]:  # private: of 3.10 to 3.13
                handler = reference()
                lock = getattr(handler, "lock", None)
                if handler is None or lock is None:
                    continue
                patience = 0.0 if handler in self._stuck else max(0.0, deadline - calls.monotonic())
                if lock.acquire(timeout=patience):
                    taken.append(lock)
                else:
                    self._stuck.add(handler)
            yield
        finally:
            for lock in taken:
                with suppress(RuntimeError):  # in the child logging has made them anew
                    lock.release()
