"""Records, in the child, the warnings that pytest would have recorded."""

from __future__ import annotations

import warnings
from typing import Any

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.messages import Send


class WarningRecorder:
    """Records warnings, by the filters that are in force already, from pytest's wrapper round the protocol.

    Not by ``warnings.catch_warnings``, which copies the filters and makes every module forget what it warned of. The
    process ends with the test, so nothing is to be undone.
    """

    def __init__(self) -> None:
        self._records: list[warnings.WarningMessage] = []

    def start(self) -> None:
        """In the child."""
        warnings.showwarning = self._add  # type: ignore[assignment] # its last two parameters say where to write

    def _add(self, message: Any, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        self._records.append(warnings.WarningMessage(message, category, filename, lineno))

    def send(self, send: Send) -> None:
        """Send all of them."""
        for record in self._records:
            send((messages.WARNING, serialize.pack_warning(record)))
