"""In a child that was forked in another test's protocol: what pytest has round the protocol of its own test.

pytest wraps the protocol to apply the test's filters of warnings, and to explain comparisons by the hooks of the test's
own folder. What is in force at the fork is another test's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

from pytest_isolate.plugin import fixtures, hook_callers


class ProtocolWrappers:
    """Those of one item; found before the fork."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._filters = item.config.stash.get(fixtures.FILTERS, [])
        self._wrappers: list[Callable[..., Generator[object, object, object]]] = hook_callers.own_wrappers(item)
        self._entered: list[object] = []  # else they would be left at once

    def enter(self) -> None:
        """In the child, which ends with the test: they are never left."""
        warnings.resetwarnings()  # tells the interpreter that the filters are others
        filters: Any = warnings.filters
        filters[:] = self._filters
        for wrapper in self._wrappers:
            entered = wrapper(item=self._item)
            next(entered)
            self._entered.append(entered)
