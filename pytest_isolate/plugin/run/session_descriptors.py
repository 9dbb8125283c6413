"""What modules and fixtures have open in pytest's process, and all tests would use: sockets, pipes, files.

A socket of a session fixture is one socket for all forks: of two tests that use it at the same time each may read the
other's answer. So is a connection to a database, are the pipes of a program, and what an event loop wakes itself by.
A file has one offset for all: a test reads where another one has gone to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_isolate.plugin.integrations.multiprocessing_helpers import helper_descriptors
from pytest_isolate.session.shared_descriptors import Descriptor, is_shared, kind, list_open


class SessionDescriptors:
    """Knows those that came with modules and higher-scoped fixtures. The others are of plugins."""

    def __init__(self) -> None:
        self._owners: dict[Descriptor, str] = {}

    def add_collected(self, first: frozenset[tuple[int, int, int]]) -> None:
        """After collection: what modules and conftest.py files have opened.

        :param first: see :data:`pytest_isolate.plugin.fixtures.FIRST_DESCRIPTORS`.
        """
        self._owners |= dict.fromkeys(list_open() - first, "a module")

    @contextmanager
    def opened_by(self, fixture: str) -> Iterator[None]:
        """What is opened meanwhile is the fixture's."""
        before = list_open()
        try:
            yield
        finally:
            self._owners |= dict.fromkeys(list_open() - before, f"the fixture {fixture}")

    def shared(self) -> str | None:
        """One that tests would share, and whose it is; None: there is none."""
        self._owners = {each: owner for each, owner in self._owners.items() if is_shared(each)}
        helpers = helper_descriptors() if self._owners else set()
        found = ((each, owner) for each, owner in self._owners.items() if each.number not in helpers)
        return next((f"a {kind(each)} of {owner} is open in pytest's process" for each, owner in found), None)
