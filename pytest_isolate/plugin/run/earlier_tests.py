"""The tests that ran before one that failed: what of theirs it may miss."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.plugin.config import item_specs

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Change, Outcome

_REMEMBERED = 1000  # tests that changed files
_CHANGES = 100  # of each
_LOOKED_AT = 2000  # tests, for what they store


class EarlierTests:
    """Remembers which test changed which files, as far as that is known anyway; looks at the rest after a failure."""

    def __init__(self) -> None:
        self._changed: deque[tuple[str, tuple[Change, ...]]] = deque(maxlen=_REMEMBERED)

    def note(self, item: pytest.Item, changes: tuple[Change, ...]) -> None:
        """``item`` has changed these files."""
        if len(changes) > _CHANGES:  # those that are most likely to be named
            changes = tuple(sorted(changes, key=lambda change: change.path.count("/"))[:_CHANGES])
        self._changed.append((item.nodeid, changes))

    def hints(self, item: pytest.Item, outcome: Outcome, text: str) -> list[str]:
        """Sentences on what ``item``, which failed as ``text`` shows, may miss of earlier tests."""
        from pytest_isolate.plugin.report import earlier_code, earlier_files  # noqa: PLC0415 - after a failure only

        own = {change.path for change in outcome.usage.changes or ()}
        before = [each for each in self._changed if each[0] != item.nodeid]
        return [*earlier_files.hints(text, before, own), *earlier_code.hints(text, lambda: _codes(item))]


def _codes(item: pytest.Item) -> Iterator[tuple[str, CodeType]]:
    """Names and functions of isolated tests before ``item`` in its file, the latest first."""
    items = item.session.items
    place = next((number for number, other in enumerate(items) if other is item), 0)
    for other in reversed(items[max(0, place - _LOOKED_AT) : place]):
        function = getattr(other, "function", None)
        if other.path == item.path and function is not None and item_specs.spec_for(other) is not None:
            code = getattr(inspect.unwrap(function), "__code__", None)
            if isinstance(code, CodeType):
                yield other.nodeid, code
