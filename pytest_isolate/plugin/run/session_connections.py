"""Connections of pytest's process: sockets and pipes by which tests talk to others, wherever they are.

A socket of a session fixture is one socket for all forks: of two tests that use it at the same time each may read the
other's answer. So is a connection to a database, are the pipes of a program, and what an event loop wakes itself by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_isolate.session import connections
from pytest_isolate.session.connections import Connection

#: In ``config.stash``, where tests may run side by side: those that there were before collection: of xdist's worker,
#: standard input, and what plugins talk through.
FIRST: pytest.StashKey[frozenset[Connection]] = pytest.StashKey()


class SessionConnections:
    """Knows those that came with modules and higher-scoped fixtures. The others are of plugins."""

    def __init__(self) -> None:
        self._found: set[Connection] = set()

    def add_collected(self, first: frozenset[Connection]) -> None:
        """After collection: what modules and conftest.py files have opened. :param first: see :data:`FIRST`."""
        self._found |= connections.list_connections() - first

    @contextmanager
    def opened_by(self, _fixture: str) -> Iterator[None]:
        """What is opened meanwhile is the fixture's."""
        before = connections.list_connections()
        try:
            yield
        finally:
            self._found |= connections.list_connections() - before

    def is_one_open(self) -> bool:
        """Whether there is one that tests may share."""
        self._found = {each for each in self._found if connections.is_open(each)}
        return bool(self._found)
