"""Where higher-scoped fixtures are set up: once in pytest's process, or in each sandbox, as a fixture of the test's.

The ini file names those that each sandbox sets up. A test shares their objects with a thread, and a fork has only the
thread that forked: a reader that fills a queue, an executor, a server that each test configures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any

import pytest

from pytest_isolate.plugin import higher_scoped_fixtures
from pytest_isolate.plugin.higher_scoped_fixtures import HigherScopedFixture


class Placement:
    """Decides where each fixture is set up."""

    def __init__(
        self,
        inside: Iterable[str],
        is_inside: Callable[[pytest.FixtureDef[Any]], bool],
        watched: Sequence[Callable[[str], AbstractContextManager[None]]],
    ) -> None:
        """:param inside: names of the fixtures that each sandbox sets up; with them, those that ask for one of them.

        :param is_inside: whether a fixture that is not named is one as well; asked once for each.
        :param watched: called with the name of a fixture that is about to be set up here.
        """
        self._inside = frozenset(inside)
        self._is_inside = cache(is_inside)
        self._watched = watched

    def set_up(self, item: pytest.Item) -> None:
        """Have pytest set up here what belongs here, or take what is there."""
        __tracebackhide__ = True
        for fixture in self.divide(item)[0]:
            if higher_scoped_fixtures.is_set_up(item, fixture):
                higher_scoped_fixtures.set_up(item, fixture)
            else:
                with ExitStack() as stack:
                    for watch in self._watched:
                        stack.enter_context(watch(fixture.name))
                    higher_scoped_fixtures.set_up(item, fixture)

    def divide(self, item: pytest.Item) -> tuple[list[HigherScopedFixture], list[HigherScopedFixture]]:
        """Divide the item's higher-scoped fixtures: those to set up here, in this order, and those to set up inside.

        What a fixture asks for comes before it.
        """
        known = {fixture.name: fixture for fixture in higher_scoped_fixtures.find_fixtures(item)}
        inside: dict[str, bool] = {}  # in the order of their set-up

        def place(fixture: HigherScopedFixture) -> bool:
            if fixture.name not in inside:
                # By its own name a fixture asks for the one that it overrides.
                needed = [known[name] for name in fixture.definition.argnames if name in known and name != fixture.name]
                placed = [place(each) for each in needed]  # every one, as place() also puts them in order
                inside[fixture.name] = (
                    fixture.name in self._inside or self._is_inside(fixture.definition) or any(placed)
                )
            return inside[fixture.name]

        for fixture in known.values():
            place(fixture)
        return [known[name] for name in inside if not inside[name]], [known[name] for name in inside if inside[name]]
