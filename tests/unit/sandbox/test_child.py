"""What pytest's process does for its children, before the first of them."""

from __future__ import annotations

import os
import signal
import tempfile
from types import FrameType

from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import child


def test_a_handler_of_the_signal_for_stacks_stays_in_force() -> None:
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(child.DUMP_SIGNAL, hear)
    try:
        with tempfile.TemporaryFile() as stacks:
            child.prepare(Fd(stacks.fileno()))
            os.kill(os.getpid(), child.DUMP_SIGNAL)
            assert heard == [child.DUMP_SIGNAL]
            assert stacks.read() == b""
    finally:
        signal.signal(child.DUMP_SIGNAL, before)
