"""Fixtures of class, module, package and session scope: which of them an item needs, and their set-up out here."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pytest

_SKIPPING = ("skip", "skipif", "xfail")  #: marks that pytest looks at in the set-up
#: 8.0 schedules the tear-down of a fixture anew for each test that finds it set up, unless that test's request has it
#: already: it would be torn down inside. Seen with 8.0.0, and not with 8.4; those between were not tried.
_SCHEDULES_ANEW = pytest.version_tuple < (8, 4)


class HigherScopedFixture(NamedTuple):
    """A fixture of a higher scope than function."""

    name: str
    definition: pytest.FixtureDef[Any]
    above: int  #: how many override it, one the other, each asking by its own name for what it overrides


def find_fixtures(item: pytest.Item) -> list[HigherScopedFixture]:
    """Find what the item asks for, in the order of pytest's set-up; at the end what only overridden fixtures ask for.

    Private: ``Item._fixtureinfo`` and ``CallSpec2._arg2scope``, the same in 8.0, 9.0, 9.2; doctests have the former
    too.
    """
    info = getattr(item, "_fixtureinfo", None)
    if info is None:  # an item of another plugin, without fixtures
        return []
    parameter_scopes = getattr(getattr(item, "callspec", None), "_arg2scope", {})
    in_class = item.getparent(pytest.Class) is not None
    found = []
    own: list[str] = item.fixturenames  # type: ignore[attr-defined]
    waiting, known = deque(own), {*own}
    while waiting:
        name = waiting.popleft()
        definitions = info.name2fixturedefs.get(name) or (() if name in own else _look_up(item, name))
        for above, definition in enumerate(reversed(definitions[-1:] if _SCHEDULES_ANEW else definitions)):
            scope = parameter_scopes[name].value if name in parameter_scopes else definition.scope
            # A class-scoped fixture of a test outside any class lives as long as the test.
            if scope != "function" and (scope != "class" or in_class):
                found.append(HigherScopedFixture(name, definition, above))
                break
            more = [other for other in definition.argnames if other not in known]  # pytest before 9.2 leaves them out
            waiting += more
            known.update(more)
            if name not in definition.argnames:
                break
    return found


def find_unknown(item: pytest.Item, names: Iterable[str]) -> list[str]:
    """Find those of ``names`` that no fixture has, be it one of ``item``'s or not.

    Private: ``FixtureManager.getfixturedefs``, which answers None then, and asks for a node's id before 8.1.
    """
    node: Any = item.nodeid if pytest.version_tuple < (8, 1) else item
    return [name for name in names if item.session._fixturemanager.getfixturedefs(name, node) is None]


def set_up(item: pytest.Item, fixture: HigherScopedFixture) -> None:
    """Have pytest set the fixture up out here, or take what is there.

    The fixtures that override this one are for the set-up inside, so pytest must not see them meanwhile, nor remember
    this one as the fixture of that name. Private: the request's ``_arg2fixturedefs`` and ``_fixture_defs``, the same in
    8.4, 9.0, 9.2.
    """
    __tracebackhide__ = True
    request: Any = item._request  # type: ignore[attr-defined]
    if not fixture.above:
        request.getfixturevalue(fixture.name)
        return
    known, name = request._arg2fixturedefs, fixture.name
    definitions = known.get(name) or _look_up(item, name)
    known[name] = definitions[: -fixture.above]
    try:
        request.getfixturevalue(name)
    finally:
        known[name] = definitions
        request._fixture_defs.pop(name, None)


def _look_up(item: pytest.Item, name: str) -> Sequence[pytest.FixtureDef[Any]]:
    """Look the fixture up, as ``getfixturevalue`` does.

    Private: ``FixtureManager.getfixturedefs``, the same in 8.4, 9.0, 9.2.
    """
    return item.session._fixturemanager.getfixturedefs(name, item) or ()


def forget(fixture: HigherScopedFixture) -> None:
    """Forget, in a child that sets the fixture up anew, what its parent set up for a test outside of sandboxes.

    Private: ``FixtureDef.cached_result`` and ``_finalizers``, the same in 8.0, 9.0, 9.2.
    """
    fixture.definition.cached_result = None
    fixture.definition._finalizers.clear()


def are_set_up(item: pytest.Item, needed: Iterable[HigherScopedFixture]) -> bool:
    """Whether a test before has set up all that the item needs out here, and nothing may keep the item from running."""
    if _SCHEDULES_ANEW:
        return False
    if [*item.session._setupstate.stack] != item.listchain()[:-1] or _is_marked(item):
        return False
    return all(is_set_up(item, fixture) for fixture in needed)


def is_set_up(item: pytest.Item, fixture: HigherScopedFixture) -> bool:
    """Whether a test before has set the fixture up, for all tests.

    Private: ``FixtureDef.cached_result``, the same in 8.0, 9.0, 9.2.
    """
    result = fixture.definition.cached_result
    parameters = getattr(getattr(item, "callspec", None), "params", ())  # another parameter is another value
    return result is not None and result[2] is None and fixture.name not in parameters


def is_free(item: pytest.Item, needed: Iterable[HigherScopedFixture]) -> bool:
    """Whether nothing is to be set up or torn down out here before ``item``'s turn, by what is set up now.

    Each node has its own ``teardown`` among its finalizers, and some have a ``setup``; those of pytest's base class do
    nothing. Private: ``Session._setupstate.stack``, a dict of node to (finalizers, exception); the same in 8.0 to 9.2.
    """
    stack, chain = item.session._setupstate.stack, item.listchain()[:-1]
    for node, (finalizers, _) in stack.items():
        if node not in chain and not isinstance(node, pytest.Item):
            idle = type(node).teardown is pytest.Item.teardown and [*finalizers] == [node.teardown]
            if not idle:
                return False
    if any(type(node).setup is not pytest.Item.setup for node in chain if node not in stack):
        return False
    return all(is_set_up(item, fixture) or _is_set_up_for(item, fixture) for fixture in needed)


def _is_set_up_for(item: pytest.Item, fixture: HigherScopedFixture) -> bool:
    """Whether a test before has set the fixture up with the very parameter that ``item`` has.

    Private: the second entry of ``FixtureDef.cached_result``, the same in 8.0, 9.0, 9.2.
    """
    result, parameters = fixture.definition.cached_result, getattr(getattr(item, "callspec", None), "params", {})
    return (
        result is not None
        and result[2] is None
        and fixture.name in parameters
        and result[1] is parameters[fixture.name]
    )


def does_nothing(definition: pytest.FixtureDef[Any]) -> bool:
    """Whether it is that of a class of :mod:`unittest` which has no ``setUpClass`` and ``tearDownClass`` of its own.

    pytest makes one for each class. Private: its name, and the names of the methods in its closure; the same in 8.0 to
    9.2.
    """
    if not definition.argname.startswith("_unittest_setUpClass_fixture_"):
        return False
    from unittest import TestCase  # noqa: PLC0415 - pytest loads it late as well

    functions = inspect.getclosurevars(definition.func).nonlocals
    inherited: dict[str, Any] = {"setup": TestCase.setUpClass, "teardown": TestCase.tearDownClass}
    return all(getattr(functions.get(name), "__func__", None) is method.__func__ for name, method in inherited.items())


def must_be_looked_at(item: pytest.Item, needed: Sequence[HigherScopedFixture]) -> bool:
    """Whether pytest's set-up out here has something to say of ``item``, though nothing is to be set up."""
    return _is_marked(item) or (_SCHEDULES_ANEW and bool(needed))


def _is_marked(item: pytest.Item) -> bool:
    """Whether a mark may keep the item from running, or is wrong itself."""
    names = [name for name in _SKIPPING if name in item.keywords]
    return any(not _is_harmless(mark) for name in names for mark in item.iter_markers(name))


def _is_harmless(mark: pytest.Mark) -> bool:
    """A ``skipif`` that was False when it was written, or an ``xfail`` that lets the test run.

    A condition that is a string is yet to be evaluated, and one without a reason is an error.
    """
    conditions = (mark.kwargs["condition"],) if "condition" in mark.kwargs else mark.args
    if any(type(each) is not bool for each in conditions) or (conditions and mark.kwargs.get("reason") is None):
        return False
    if mark.name == "xfail":
        return mark.kwargs.get("run", True) is True
    return mark.name == "skipif" and bool(conditions) and not any(conditions)


def all_stay(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Whether all that is set up out here is needed by ``nextitem``, too."""
    session = item.session
    stack = [*session._setupstate.stack]
    stopping = session.shouldfail or session.shouldstop
    return nextitem is not None and not stopping and nextitem.listchain()[: len(stack)] == stack
