"""Fixtures of class, module, package and session scope: which of them an item needs, and their set-up out here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pytest

_SKIPPING = ("skip", "skipif", "xfail")  #: marks that pytest looks at in the set-up
#: 8.0 schedules the tear-down of a fixture anew for each test that finds it made, unless that test's request has it
#: already: it would be torn down inside. Seen with 8.0.0, and not with 8.4; those between were not tried.
_SCHEDULES_ANEW = pytest.version_tuple < (8, 4)


class Wider(NamedTuple):
    """A fixture wider than a function."""

    name: str
    definition: pytest.FixtureDef[Any]
    above: int  #: how many override it, one the other, each asking by its own name for what it overrides


def fixtures(item: pytest.Item) -> list[Wider]:
    """What the item asks for, in the order in which pytest sets it up; at the end what only overridden ones ask for.

    Private: ``Item._fixtureinfo`` and ``CallSpec2._arg2scope``, the same in 8.0, 9.0, 9.2; doctests have the former
    too.
    """
    info = getattr(item, "_fixtureinfo", None)
    if info is None:  # an item of another plugin, without fixtures
        return []
    given = getattr(getattr(item, "callspec", None), "_arg2scope", {})
    in_class = item.getparent(pytest.Class) is not None
    found = []
    names = [*item.fixturenames]  # type: ignore[attr-defined]
    own = len(names)
    for number, name in enumerate(names):  # grows meanwhile
        definitions = info.name2fixturedefs.get(name) or (_looked_up(item, name) if number >= own else ())
        for above, definition in enumerate(reversed(definitions[-1:] if _SCHEDULES_ANEW else definitions)):
            scope = given[name].value if name in given else definition.scope
            # A class-scoped fixture of a test outside any class lives as long as the test.
            if scope != "function" and (scope != "class" or in_class):
                found.append(Wider(name, definition, above))
                break
            names += [other for other in definition.argnames if other not in names]  # pytest before 9.2 leaves them out
            if name not in definition.argnames:
                break
    return found


def unknown(item: pytest.Item, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that no fixture has, be it one of ``item``'s or not.

    Private: ``FixtureManager.getfixturedefs``, which answers None then, and asks for a node's id before 8.1.
    """
    node: Any = item.nodeid if pytest.version_tuple < (8, 1) else item
    return [name for name in names if item.session._fixturemanager.getfixturedefs(name, node) is None]


def set_up(item: pytest.Item, fixture: Wider) -> None:
    """Have pytest set it up out here, or take what is there.

    What overrides it is for the set-up inside, so pytest must not see that meanwhile, nor remember the overridden one
    as the fixture of that name. Private: the request's ``_arg2fixturedefs`` and ``_fixture_defs``, the same in 8.4,
    9.0, 9.2.
    """
    request: Any = item._request  # type: ignore[attr-defined]
    if not fixture.above:
        request.getfixturevalue(fixture.name)
        return
    known, name = request._arg2fixturedefs, fixture.name
    definitions = known.get(name) or _looked_up(item, name)
    known[name] = definitions[: -fixture.above]
    try:
        request.getfixturevalue(name)
    finally:
        known[name] = definitions
        request._fixture_defs.pop(name, None)


def _looked_up(item: pytest.Item, name: str) -> Sequence[pytest.FixtureDef[Any]]:
    """As pytest does for ``getfixturevalue``. Private: ``FixtureManager.getfixturedefs``, the same in 8.4, 9.0, 9.2."""
    return item.session._fixturemanager.getfixturedefs(name, item) or ()


def forget(fixture: Wider) -> None:
    """In a child that sets it up anew: what its parent has of it, for a test outside of sandboxes, stays the parent's.

    Private: ``FixtureDef.cached_result`` and ``_finalizers``, the same in 8.0, 9.0, 9.2.
    """
    fixture.definition.cached_result = None
    fixture.definition._finalizers.clear()


def stands(item: pytest.Item, needed: Iterable[Wider]) -> bool:
    """Whether all that the item needs out here has been set up by a test before, and nothing may keep it from running.

    Private: ``FixtureDef.cached_result``, the same in 8.0, 9.0, 9.2.
    """
    if _SCHEDULES_ANEW:
        return False
    if [*item.session._setupstate.stack] != item.listchain()[:-1] or any(name in item.keywords for name in _SKIPPING):
        return False
    given = getattr(getattr(item, "callspec", None), "params", {})  # another parameter is another value
    for fixture in needed:
        result = fixture.definition.cached_result
        if fixture.name in given or result is None or result[2] is not None:
            return False
    return True


def stays(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Whether all that is set up out here is needed by ``nextitem``, too."""
    session = item.session
    stack = [*session._setupstate.stack]
    stopping = session.shouldfail or session.shouldstop
    return nextitem is not None and not stopping and nextitem.listchain()[: len(stack)] == stack
