"""concurrent.futures: executors of pytest's process, whose threads are in no sandbox.

An executor starts a thread where it knows of none that is idle. In a fork it knows of those that pytest's process
has. So what a test submits to it would wait for ever: to that of a fixture, or of an event loop that outlasts the test,
by ``asyncio.to_thread`` or a look-up of a name. The child's copy forgets its threads, and starts others. What was
queued when the test was forked is done by these as well, before what the test submits.

Private: ``_threads_queues`` of ``concurrent.futures.thread``, ``Thread._args``, which a thread has until it ends and
begins with a reference to its executor, and ``_threads`` and ``_idle_semaphore`` of that; 3.10 to 3.15.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class Executors(Integration):
    """Costs a look-up in ``sys.modules`` where no executor has a thread."""

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        threads = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", None)
        if not threads:
            return None
        found = {id(executor): executor for executor in _executors([*threads])}
        return partial(_forget_threads, [*found.values()]) if found else None


def _executors(threads: list[threading.Thread]) -> Iterator[Any]:
    for thread in threads:
        first, *_ = getattr(thread, "_args", None) or [None]  # none, if it has just ended
        executor = first() if isinstance(first, weakref.ref) else None
        if hasattr(executor, "_threads") and hasattr(executor, "_idle_semaphore"):
            yield executor


def _forget_threads(executors: list[Any]) -> None:
    """In the child."""
    for executor in executors:
        executor._threads, executor._idle_semaphore = set(), threading.Semaphore(0)
