"""Framed messages of plain data between the process inside a sandbox and the keeper outside.

JSON, never pickle: what runs inside must not be able to run code outside. A frame is a length of four bytes and the
text in UTF-8; lone surrogates, which captured output may hold, travel as escapes.

Everything is bound when this is imported: a test's reports are sent while its fixtures may still have ``os.write`` or
``json.dumps`` replaced.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from posix import write
from select import POLLOUT, poll

_LENGTH = struct.Struct("=I")
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def send(descriptor: int, message: object, full: Callable[[], object] | None = None) -> None:
    """Write one frame, until all of it is taken; ``TypeError`` if ``message`` is no plain data.

    :param full: called each time that a non-blocking ``descriptor`` takes no more, before waiting for it.
    :raises BlockingIOError: a non-blocking ``descriptor`` takes no more, without ``full``.
    """
    text = _encode(message).encode("ascii")
    rest = memoryview(_LENGTH.pack(len(text)) + text)
    while rest:
        try:
            rest = rest[write(descriptor, rest) :]
        except BlockingIOError:
            if full is None:
                raise
            full()
            waiting = poll()
            waiting.register(descriptor, POLLOUT)
            waiting.poll()


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
            yield _decode(self._buffer[start + _LENGTH.size : end].decode())
            start = end
        del self._buffer[:start]
