"""Names and owners of this process's threads."""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.run.session_threads import SessionThreads


def wait_here(event: threading.Event) -> None:
    event.wait(60)


@pytest.fixture
def start() -> Iterator[Callable[[str], None]]:
    """Starts a thread of that module, which ends with the test."""
    end, before = threading.Event(), calls.frames().keys()

    def start_one(module: str) -> None:
        if module == "_thread":
            number = _thread.start_new_thread(wait_here, (end,))
            while number not in calls.frames():  # as Thread.start() does; before, it is as one without Python
                time.sleep(0.001)
        else:
            threading.Thread(target=wait_here, args=(end,), name="named").start()

    yield start_one
    end.set()
    while calls.frames().keys() - before:  # else a thread of the next test may have the number of this one
        time.sleep(0.001)


@pytest.fixture
def threads() -> SessionThreads:
    return SessionThreads((fixtures.list_threads(), frozenset(calls.frames())))


@pytest.mark.parametrize(("module", "name"), [("_thread", "wait_here (_thread)"), ("threading", "named")])
def test_a_thread_is_named_with_the_fixture_that_started_it(
    threads: SessionThreads, start: Callable[[str], None], module: str, name: str
) -> None:
    assert threads.missing() == {}
    assert not threads.may_log()
    with threads.started_by("fixture"):
        start(module)
    assert threads.missing() == {name: "fixture"}
    assert threads.may_log()


def test_threads_of_one_name_are_told_by_their_fixtures(threads: SessionThreads, start: Callable[[str], None]) -> None:
    for fixture in ("one", "other", "other"):
        with threads.started_by(fixture):
            start("threading")

    found = threads.missing()

    assert sorted(found.values(), key=str) == ["one", "other"]
    assert {name.replace(str(owner), "ITS") for name, owner in found.items()} == {"named", "named of ITS"}


def test_a_thread_of_nobodys_has_no_fixture_and_none_counts_as_native(
    threads: SessionThreads, start: Callable[[str], None]
) -> None:
    with threads.started_by("fixture"):
        pass
    start("threading")
    assert threads.missing() == {"named": None}
    assert threads.native() == []


def test_those_that_were_there_at_first_are_not_named(start: Callable[[str], None]) -> None:
    start("threading")
    assert SessionThreads((fixtures.list_threads(), frozenset(calls.frames()))).missing() == {}


def test_the_first_thread_of_a_forked_process_is_no_librarys() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(SessionThreads().native()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as found:
        assert found.read() == b"[]"
