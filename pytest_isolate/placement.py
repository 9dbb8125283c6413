"""Where fixtures of wider scope are set up: once in pytest's process, or in each sandbox, as a fixture of the test's.

The ini file names the latter. They are those whose objects a test shares with a thread, as a fork has but the thread
that forked: a reader that fills a queue, an executor, a server that a test tells what to answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from pytest_isolate import wider
from pytest_isolate.wider import Wider


class Placement:
    """Decides of each fixture, and remembers which thread is whose."""

    def __init__(self, inside: Iterable[str]) -> None:
        """:param inside: names of the fixtures that each sandbox sets up; with them, those that ask for one of them."""
        self._inside = frozenset(inside)
        self._before = threading.enumerate()  # the main one, and execnet's
        self._owners: dict[threading.Thread, str] = {}  # names of fixtures, by the threads that their set-up started

    def set_up(self, item: pytest.Item) -> None:
        """Have pytest set up here what belongs here, or take what is there."""
        for fixture in self.of(item)[0]:
            before = threading.enumerate()
            wider.set_up(item, fixture)
            self._owners |= {thread: fixture.name for thread in threading.enumerate() if thread not in before}

    def threads(self) -> dict[str, str | None]:
        """Names of the threads that this process has, and no sandbox: each with the fixture whose set-up started it."""
        running = [thread for thread in threading.enumerate() if thread not in self._before]
        return {thread.name: self._owners.get(thread) for thread in running}

    def of(self, item: pytest.Item) -> tuple[list[Wider], list[Wider]]:
        """Wider-scoped fixtures of the item's: those to set up here, in this order, and those to set up in its sandbox.

        What one asks for comes before it.
        """
        known = {fixture.name: fixture for fixture in wider.fixtures(item)}
        inside: dict[str, bool] = {}  # in the order of their set-up

        def place(fixture: Wider) -> bool:
            if fixture.name not in inside:
                # By its own name a fixture asks for the one that it overrides.
                needed = [known[name] for name in fixture.definition.argnames if name in known and name != fixture.name]
                placed = [place(each) for each in needed]  # every one, as that also puts them in their place
                inside[fixture.name] = fixture.name in self._inside or any(placed)
            return inside[fixture.name]

        for fixture in known.values():
            place(fixture)
        return [known[name] for name in inside if not inside[name]], [known[name] for name in inside if inside[name]]
