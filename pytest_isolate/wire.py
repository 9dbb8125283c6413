"""Framed messages of plain data between the process inside a sandbox and the keeper outside.

JSON, never pickle: what runs inside must not be able to run code outside. A frame is a length of four bytes and the
text in UTF-8; lone surrogates, which captured output may hold, travel as escapes.
"""

from __future__ import annotations

import json
import os
import select
import struct
from collections.abc import Callable, Iterator

_LENGTH = struct.Struct("=I")


def send(descriptor: int, message: object, full: Callable[[], object] | None = None) -> None:
    """Write one frame, until all of it is taken; ``TypeError`` if ``message`` is no plain data.

    :param full: called each time that a non-blocking ``descriptor`` takes no more, before waiting for it.
    :raises BlockingIOError: a non-blocking ``descriptor`` takes no more, without ``full``.
    """
    text = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    rest = memoryview(_LENGTH.pack(len(text)) + text)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            if full is None:
                raise
            full()
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


class Reader:
    """Puts frames together from pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[object]:
        """The messages that ``piece`` completes, in order; ``ValueError`` if one is no JSON."""
        self._buffer += piece
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield json.loads(self._buffer[start + _LENGTH.size : end].decode())
            start = end
        del self._buffer[:start]
