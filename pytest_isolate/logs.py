"""What a process with threads that log does about it: round a fork, and while it waits for a test.

A thread that is just writing to a file holds the lock of the file's buffer, which CPython gives back in no child: who
writes there is blocked for ever. A thread that logs does so under its handler's lock; so while we have all of those, no
thread has such a buffer's. (It can still be had by one that writes to the file directly.)
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11; installed wherever types are checked

_PATIENCE = 0.5  # seconds for all: a handler may be stuck for reasons of its own, or wait for another's lock


@contextmanager
def held() -> Iterator[None]:
    """Have the locks of all handlers, but those that are not free in time; left in the child as in the parent."""
    deadline = time.monotonic() + _PATIENCE
    taken = []
    try:
        if threading.active_count() > 1:
            for reference in [*getattr(logging, "_handlerList", ())]:  # private: of 3.10 to 3.13
                lock = getattr(reference(), "lock", None)
                if lock is not None and lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    taken.append(lock)
        yield
    finally:
        for lock in taken:
            with suppress(RuntimeError):  # in the child logging has made them anew
                lock.release()


class Overheard:
    """What threads of this process log during the ``with`` block; in the test's report, as in a plain run."""

    def __init__(self, formatter: logging.Formatter, level: int | None) -> None:
        """:param level: the least that is heard; None: whatever reaches the root logger."""
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(formatter)
        self._level = level
        self._before = logging.root.level

    def __enter__(self) -> Self:
        """Listen from now on."""
        logging.root.addHandler(self._handler)
        if self._level is not None:
            self._handler.setLevel(self._level)
            self._before = logging.root.level
            logging.root.setLevel(min(self._before, self._level))
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`leave`."""
        self.leave()

    def leave(self) -> None:
        """Listen no longer. Also for a child, where the test's own capture takes over."""
        logging.root.removeHandler(self._handler)
        if self._level is not None:
            logging.root.setLevel(self._before)

    def text(self) -> str:
        """What was logged so far."""
        return self._stream.getvalue().strip()
