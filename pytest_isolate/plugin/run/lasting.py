"""What pytest and pluggy keep as long as the session lasts: it may live for ever, whatever it holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_OWN = ("_pytest.", "pytest_isolate.")


def lasting(config: pytest.Config) -> list[object]:
    """Plugins, hooks, nodes, fixture definitions, and keys of stashes. To be called when all tests are collected."""
    manager = config.pluginmanager
    session = manager.getplugin("session")
    own = [one for one in manager.get_plugins() if type(one).__module__.startswith(_OWN)]  # others' may be dropped
    found = [config, vars(config), manager, vars(manager), *own, *_hooks(config), *_keys()]
    return found if session is None else [*found, *_nodes(session)]


def _hooks(config: pytest.Config) -> Iterator[object]:
    """Private: ``HookCaller._hookimpls``, the list that a caller copies at each call; pluggy 1.3 to 1.7."""
    relay = config.pluginmanager.hook  # pytest before 9 has a proxy of it in ``config.hook``
    yield from (relay, vars(relay))
    for caller in vars(relay).values():
        yield from (caller, caller._hookimpls)
        yield from caller.get_hookimpls()
        if (spec := getattr(caller, "spec", None)) is not None:
            yield spec


def _keys() -> Iterator[object]:
    """Those that pytest's own modules keep what they know of a test and of the run by."""
    for name, module in [*sys.modules.items()]:
        if name.startswith(_OWN):
            yield from (one for one in [*vars(module).values()] if type(one) is pytest.StashKey)


def _nodes(session: pytest.Session) -> Iterator[object]:
    """Private: ``SetupState``, ``Function._fixtureinfo``, where an item's definitions are by name; 8.0 to 9.2."""
    yield session._setupstate
    for node in dict.fromkeys(node for item in session.items for node in item.listchain()):
        yield from (node, node.keywords, *node.own_markers)
        for definitions in getattr(getattr(node, "_fixtureinfo", None), "name2fixturedefs", {}).values():
            yield from definitions
