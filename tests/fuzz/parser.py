"""What is fuzzed: a parser is a function of bytes that raises for what the code under it should not have done."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_DEEPEST = 4
_WORDS = (
    "", " ", "0", "-1", "1.5", "none", "null", "/", "/..", "..", ".", "a", "/tmp", "\0", "\n", "\udc80", "\ud800", "é",
    "50M", "1e999", "sha256:", "0-1", "=", ":", "\\040", "~", "~x", "x" * 300, "/a" * 300, "session", "host", "root",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 255, 4096, 65535, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 10**30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One of them."""

    name: str
    try_one: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    enter: Callable[[], AbstractContextManager[object]] = nullcontext  #: what has to stand around all tries


class Taker:
    """Makes values of bytes, one after another; of none, the least values."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b"\0")

    def rest(self) -> bytes:
        found = self._data[self._at :]
        self._at = len(self._data)
        return found

    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def below(self, end: int) -> int:
        """A number from 0, less than ``end``."""
        return int.from_bytes(self.take(1 if end <= 256 else 2), "little") % end

    def text(self) -> str:
        if word := self.below(len(_WORDS) * 2):
            return _WORDS[word % len(_WORDS)]
        return self.take(self.below(24)).decode("utf-8", "surrogateescape")

    def plain(self, depth: int = 0) -> Any:
        """What JSON can say."""
        kinds: tuple[Callable[[], Any], ...] = (
            self.text,
            lambda: None,
            lambda: bool(self.below(2)),
            lambda: _NUMBERS[self.below(len(_NUMBERS))],
            lambda: struct.unpack("<d", self.take(8))[0],
            lambda: [self.plain(depth + 1) for _ in range(self.below(4))],
            lambda: {self.text(): self.plain(depth + 1) for _ in range(self.below(4))},
        )
        return kinds[self.below(len(kinds) - (2 if depth >= _DEEPEST else 0))]()

    def value(self) -> Any:
        """What a marker can say."""
        kinds: tuple[Callable[[], Any], ...] = (
            self.plain,
            self.plain,
            lambda: self.take(self.below(8)),
            lambda: tuple(self.plain() for _ in range(self.below(4))),
            lambda: {self.text() for _ in range(self.below(4))},
            lambda: Decimal(("NaN", "sNaN", "Infinity", "1.5", "1e9999")[self.below(5)]),
            lambda: 10 ** self.below(6000),
            lambda: self.text() * self.below(2000),
            lambda: complex(1, 1),
            object,
            lambda: range(self.below(9)),
        )
        return kinds[self.below(len(kinds))]()


def edited(document: Any, taker: Taker) -> Any:
    """``document``, of JSON, with some of its parts replaced, left out or doubled."""
    for _ in range(taker.below(3) + 1):
        parts = [*_parts(document, ())]
        path = parts[taker.below(len(parts))]
        document = _edit(document, path, taker)
    return document


def _parts(document: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = document.items() if isinstance(document, dict) else enumerate(document if type(document) is list else ())
    for key, value in inner:
        yield from _parts(value, (*path, key))


def _edit(document: Any, path: tuple[Any, ...], taker: Taker) -> Any:
    if not path:
        return taker.plain()
    key, *rest = path
    copy = document.copy()
    if rest:
        copy[key] = _edit(document[key], tuple(rest), taker)
        return copy
    match taker.below(6):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, list):
            copy.append(copy[key])
        case 1 | 2 if isinstance(copy, dict):
            copy[taker.text()] = copy.pop(key)
        case _:
            copy[key] = taker.plain()
    return copy
