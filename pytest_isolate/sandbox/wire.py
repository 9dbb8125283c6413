"""Framed messages of plain data between the process inside a sandbox and the keeper outside.

JSON, never pickle: what runs inside must not be able to run code outside. A frame is a length of four bytes and the
text in UTF-8; lone surrogates, which captured output may hold, travel as escapes.

A test's reports are sent while its fixtures may still have ``os.write`` or ``json.dumps`` replaced: hence ``calls``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from select import POLLOUT

from pytest_isolate.linux.calls import calls

_LENGTH = struct.Struct("=I")


def send(descriptor: int, message: object, full: Callable[[], object] | None = None) -> None:
    """Write one frame, until all of it is taken; ``TypeError`` if ``message`` is no plain data.

    :param full: called each time that a non-blocking ``descriptor`` takes no more, before waiting for it.
    :raises BlockingIOError: a non-blocking ``descriptor`` takes no more, without ``full``.
    """
    text = calls.encode(message).encode("ascii")
    rest = memoryview(_LENGTH.pack(len(text)) + text)
    while rest:
        try:
            rest = rest[calls.write(descriptor, rest) :]
        except BlockingIOError:
            if full is None:
                raise
            full()
            waiting = calls.poll()
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
            yield _decode(self._buffer[start + _LENGTH.size : end])
            start = end
        del self._buffer[:start]


def _decode(frame: bytearray) -> object:
    try:
        return calls.decode(frame.decode())
    except RecursionError as error:  # thousands of brackets: no message of ours
        raise ValueError("it is nested too deeply") from error
