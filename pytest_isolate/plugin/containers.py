"""Sets, tuples, and dicts with keys of any kind, as JSON can carry them, and made again.

Other plugins add them to reports: pytest-testmon, for one, a set of lines for each file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (dict, list, tuple, set, frozenset)}


def named(value: object, leaf: Callable[[object], object]) -> object:
    """``value`` with each container as its kind's name and its entries.

    :param leaf: what becomes of values that are no containers.
    """
    name = type(value).__name__
    if not isinstance(value, (dict, list, tuple, set, frozenset)) or _KINDS.get(name) is not type(value):
        return leaf(value)
    entries = value.items() if isinstance(value, dict) else value
    return [name, [named(entry, leaf) for entry in entries]]


def made(data: Any) -> object:
    """What :func:`named` was given, but for what ``leaf`` changed.

    :raises Exception: of any kind, if ``data`` was not made by it.
    """
    if not isinstance(data, list):
        return data
    kind, entries = data
    return _KINDS[kind]([made(entry) for entry in entries])
