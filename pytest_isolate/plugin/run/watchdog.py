"""faulthandler's watchdog: what ``faulthandler.dump_traceback_later`` starts, a conftest.py file's or pytest's own.

Its thread is in no fork. Who cancels it there, or starts it anew, waits for that thread for ever: the test itself, or
pytest, which cancels it at each failure. So it is cancelled before the fork. Nobody tells what it was started with, and
so it is not started again; pytest's own is, by pytest, in the child.
"""

from __future__ import annotations

import sys

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures

_LOOKS = 10  # a millisecond apart, until the kernel has removed the thread
NOTE = "isolate: faulthandler.dump_traceback_later() is cancelled, as its thread is in no sandbox; a timeout is of use"


def cancel() -> None:
    """Cancel it, if it runs."""
    if (faulthandler := sys.modules.get("faulthandler")) is not None:
        faulthandler.cancel_dump_traceback_later()


def end() -> bool:
    """As :func:`cancel`; whether it ran. Takes some milliseconds if it did not."""
    before = len(fixtures.list_threads())
    cancel()
    for _ in range(_LOOKS):
        if len(fixtures.list_threads()) < before:
            return True
        calls.sleep(0.001)
    return False
