"""Files of its own for what a test writes, where several run at a time: a fork shares the offset of pytest's.

There are two kinds. What pytest captures goes to a temporary file of pytest's, from which the child reads it at the end
of each phase. What goes past that, as in ``capsys.disabled()`` or by ``log_cli``, is for the terminal, and is written
there when the test has its turn.

Private: ``CaptureManager._global_capturing``, and ``tmpfile``, ``targetfd_save`` of what it captures by; 8.0 to 9.2.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls

_STANDARD = (1, 2)


class Streams:
    """Descriptors of pytest's by which a test writes: those captured in files, and those of the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        capturing: Any = config.pluginmanager.getplugin("capturemanager")._global_capturing
        self.captured = (capturing.out.tmpfile.fileno(), capturing.err.tmpfile.fileno())
        self.live: tuple[list[int], list[int]] = (
            [1, capturing.out.targetfd_save],
            [2, capturing.err.targetfd_save],
        )
        if (plugin := config.pluginmanager.getplugin("faulthandler")) is not None:
            self.live[1].append(config.stash.get(plugin.fault_handler_stderr_fd_key, 2))


class OwnOutput:
    """Files for one test."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.files = tuple(calls.memfd_create(f"isolate-{name}") for name in ("out", "err", "live-out", "live-err"))

    def take_over(self) -> None:
        """In the child, before all else: let the test write to these files. pytest captures nothing at that moment."""
        streams = self._streams
        for own, descriptors in zip(self.files, (*([each] for each in streams.captured), *streams.live), strict=True):
            for descriptor in descriptors:
                calls.dup2(own, descriptor, inheritable=descriptor in _STANDARD)
            calls.close(own)

    def gather(self) -> tuple[dict[str, str], tuple[bytes, bytes]]:
        """Close the files of a test that has ended: by stream, what it has not read back; what is for the terminal."""
        out, err, *live = (_take(file) for file in self.files)
        unread = {"stdout": out.decode("utf-8", "replace"), "stderr": err.decode("utf-8", "replace")}
        for file in self.files:
            calls.close(file)
        return unread, (live[0], live[1])


def show(live: tuple[bytes, bytes]) -> None:
    """Write to the terminal what a test has written for it, after what pytest has."""
    for stream, descriptor, text in zip((sys.stdout, sys.stderr), _STANDARD, live, strict=True):
        if text:
            with suppress(Exception):  # closed, or replaced by a fixture
                stream.flush()
            rest = memoryview(text)
            with suppress(OSError):  # nobody reads there any more
                while rest:
                    rest = rest[calls.write(descriptor, rest) :]


def _take(file: int) -> bytes:
    size = calls.fstat(file).st_size
    return calls.pread(file, size, 0) if size else b""
