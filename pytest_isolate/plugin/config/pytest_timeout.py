"""pytest-timeout's marker and options, which mean our key ``timeout`` where that plugin is loaded."""

from __future__ import annotations

import pytest

from pytest_isolate.spec.key_values import KeyValues, parse
from pytest_isolate.spec.values import foreign_seconds


def is_loaded(config: pytest.Config) -> bool:
    """Whether pytest-timeout is there: without it (``-p no:timeout``) its marker and options mean nothing."""
    names = ("timeout", "pytest_timeout")  # by entry point; by -p or pytest_plugins
    return any(config.pluginmanager.hasplugin(name) for name in names)


def read(value: object, place: str) -> KeyValues:
    """Read a value of pytest-timeout's as our key. :raises SpecError: it is no time."""
    return {"timeout": parse("timeout", foreign_seconds(value), place)}
