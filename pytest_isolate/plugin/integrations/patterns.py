"""Regular expressions that tests compile, each anew in its own sandbox, as ``re`` keeps them in memory.

In a plain run a pattern that one test has compiled is there for all that follow. Here it is compiled in pytest's
process as soon as two tests have: that changes nothing but what ``re`` keeps, and takes as long as one test saves.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, takewhile
from typing import Any

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.messages import Send

_OFTEN = 2  # tests that compile one, before this process does
_MOST = 50  # patterns that one test tells
_LONGEST = 20_000  # characters
_KEPT = 5_000  # patterns that are counted
_FULL = getattr(re, "_MAXCACHE2", 512)  # patterns that re keeps in the dict below

_Key = tuple[type, object, int]


class Patterns(Integration):
    """A test that compiles nothing costs one look at how many patterns there are.

    Private: ``re._cache2`` (3.12 to 3.15) or ``re._cache`` (before), a dict to whose end each new pattern comes, with
    its kind, itself and its flags as the key.
    """

    kinds = (messages.PATTERNS,)

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._seen: Counter[tuple[str | bytes, int]] = Counter()

    def after(self) -> Callable[[Send], None]:
        kept = _kept()
        full = len(kept) >= _FULL  # one that is full stays as long
        return partial(_tell, kept, -1 if full else len(kept), next(reversed(kept), None))

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        for is_bytes, text, flags in data:
            pattern = text.encode("latin-1") if is_bytes else str(text)
            self._seen[pattern, int(flags)] += 1
            if self._seen[pattern, int(flags)] == _OFTEN:
                _compile(pattern, int(flags))
        if len(self._seen) > _KEPT:
            self._seen.clear()


def _kept() -> dict[_Key, object]:
    found: dict[_Key, object] | None = getattr(re, "_cache2", None)
    return getattr(re, "_cache", {}) if found is None else found


def _tell(kept: dict[_Key, object], known: int, last: _Key | None, send: Send) -> None:
    """In the child, after the test. In few words, each of which costs pages.

    :param known: how many patterns there were before the fork.
    :param last: the newest of them.
    """
    if len(kept) == known:
        return
    found = []
    with suppress(Exception):  # a test may have put anything into it
        found = [*islice(_compiled_since(kept, last), _MOST)]
    if found:
        send((messages.PATTERNS, found))


def _compiled_since(kept: dict[_Key, object], last: _Key | None) -> Iterator[tuple[bool, str, int]]:
    for kind, pattern, flags in takewhile(lambda key: key is not last, reversed(kept)):
        if isinstance(pattern, (str, bytes)) and kind in (str, bytes) and len(pattern) <= _LONGEST:
            yield kind is bytes, pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern, int(flags)


def _compile(pattern: str | bytes, flags: int) -> None:
    """What has something to say is each test's own, as it is said when it is compiled."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("error")
        re.compile(pattern, flags)
