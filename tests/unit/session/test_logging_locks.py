"""Logging's handlers, whose locks are had while a process with threads forks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_isolate.session import logging_locks


@contextmanager
def busy(handler: logging.Handler, until: threading.Event) -> Iterator[None]:
    """A thread has the handler's lock, as while it writes, until then."""
    has_it = threading.Event()

    def write() -> None:
        with handler.lock:  # type: ignore[union-attr]
            has_it.set()
            until.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    has_it.wait(10)
    try:
        yield
    finally:
        until.set()
        thread.join()


def free(handler: logging.Handler) -> bool:
    """Whether another thread could have the lock now."""
    got = []

    def ask() -> None:
        lock = handler.lock
        assert lock is not None
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(got[0])


def test_a_handler_that_is_writing_is_waited_for_also_if_that_takes_a_second() -> None:
    handler, written = logging.Handler(), threading.Event()
    with busy(handler, written):
        timer = threading.Timer(1.0, written.set)
        timer.start()
        with logging_locks.Handlers().held():
            assert written.is_set()
            assert not free(handler)
        timer.join()
    assert free(handler)


def test_a_handler_that_is_never_free_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handler, never = logging.Handler(), threading.Event()
    handlers = logging_locks.Handlers()
    with busy(handler, never):
        monkeypatch.setattr(logging_locks, "_PATIENCE", 0.1)
        with handlers.held():
            pass
        monkeypatch.setattr(logging_locks, "_PATIENCE", 1e6)
        with handlers.held():  # would take as long
            assert not never.is_set()
    with handlers.held():
        pass
    assert free(handler)
