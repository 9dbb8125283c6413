"""What a signal handler of pytest's own process raises while pytest waits for a test.

A watchdog in a ``conftest.py`` file does so (``signal.alarm``), and a program under test that has a handler of SIGTERM
which calls ``sys.exit``. A plain run would be in the test then, which fails by it: it is none of the sandbox's errors,
even if it is an :class:`OSError`, as :class:`TimeoutError` is.
"""

from __future__ import annotations

import signal
from functools import partial
from types import CodeType, MethodType, TracebackType


def find_raised(error: BaseException) -> TracebackType | None:
    """The traceback of ``error`` from such a handler on; None: no handler has raised it.

    Ctrl-C is not meant, of which everybody knows what it says.
    """
    if isinstance(error, KeyboardInterrupt):
        return None
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code not in codes:
        traceback = traceback.tb_next
    return traceback


def _code(handler: object) -> CodeType | None:
    """Of a function, a method, a partial of either, or an object that can be called."""
    while not hasattr(handler, "__code__"):
        if isinstance(handler, partial):
            handler = handler.func
        elif callable(handler) and isinstance(handler.__call__, MethodType):
            handler = handler.__call__
        else:
            return None
    return handler.__code__ if isinstance(handler.__code__, CodeType) else None
