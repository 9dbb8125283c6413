"""Keeps logging's handlers still while a process with threads forks.

A thread that is just writing to a file holds the lock of the file's buffer, which CPython gives back in no child: who
writes there is blocked for ever. A thread that logs does so under its handler's lock; so while we have all of those, no
thread has such a buffer's. (It can still be had by one that writes to the file directly.)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

_PATIENCE = 0.5  # seconds for all: a handler may be stuck for reasons of its own, or wait for another's lock


def held() -> AbstractContextManager[None]:
    """Have the locks of all handlers, but those that are not free in time; left in the child as in the parent."""
    return _held() if threading.active_count() > 1 else nullcontext()


@contextmanager
def _held() -> Iterator[None]:
    deadline = time.monotonic() + _PATIENCE
    taken = []
    try:
        for reference in [*getattr(logging, "_handlerList", ())]:  # private: of 3.10 to 3.13
            lock = getattr(reference(), "lock", None)
            if lock is not None and lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                taken.append(lock)
        yield
    finally:
        for lock in taken:
            with suppress(RuntimeError):  # in the child logging has made them anew
                lock.release()
