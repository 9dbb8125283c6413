"""Ends what only an immortal object holds, as the interpreter ends: nobody else would, or not in time.

Without immortal objects the interpreter finds nearly all that is left to be garbage, finalises it, and empties only
those modules that are there still. A module's immortal names are never garbage: a ``__del__`` would come after its own
module has been emptied, and a file that an immortal class has been given would not be flushed at all.
"""

from __future__ import annotations

import atexit
import gc
import io
import sys
from contextlib import suppress
from types import FunctionType

from pytest_isolate.linux import native

_NAME = "_pytest_isolate_last_flush"


def install() -> None:
    """Once per process."""
    if not hasattr(sys, _NAME):
        setattr(sys, _NAME, _LastFlush())
        # When all functions of atexit have been called, the interpreter collects garbage: a good time.
        atexit.register(gc.callbacks.append, _finalize)


def _finalize(phase: str, _: dict[str, int]) -> None:
    """Call all ``__del__`` that are left, the oldest object's first, while modules have their names."""
    if phase == "start" and sys.is_finalizing():
        for one in gc.get_objects():
            if isinstance(getattr(type(one), "__del__", None), FunctionType):  # not of files, nor of generators
                native.finalize(one)


class _LastFlush:
    """Flushes all open files when it ends itself.

    It lies in the ``sys`` module, which the interpreter empties after all others, and after its last collection of
    garbage. Then the names of our modules are None, so it has all that it needs in its class.
    """

    _unfreeze = staticmethod(gc.unfreeze)
    _objects = staticmethod(gc.get_objects)
    _file = io.IOBase.__mro__[1]  # the one in C, which does not ask registered classes
    _suppress = suppress(Exception)  # closed, or broken: nobody can be told any more

    def __del__(self) -> None:
        self._unfreeze()  # frozen objects are not listed
        for one in self._objects():
            if issubclass(type(one), self._file):
                with self._suppress:
                    one.flush()
