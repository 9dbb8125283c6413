"""In the child: finds what only the garbage collector frees, while there is somebody to be told of it.

pytest does so when it ends: an object in a reference cycle that warns of not having been closed, a coroutine that was
never awaited, a generator whose code is to be covered. A child ends without.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import pytest


def make_collector(config: pytest.Config) -> Callable[[], None]:
    """Make, once per session, what each child is to call when its test is over and nothing holds its fixtures.

    It raises what the filters of warnings make of an error in ``__del__``, as pytest does in each phase. Private:
    ``_pytest.unraisableexception``, a function that looks at what has been gathered, before 8.4 one that is a wrapper
    of a hook.
    """
    plugin: Any = config.pluginmanager.getplugin("unraisableexception")
    if (wrapper := getattr(plugin, "unraisable_exception_runtest_hook", None)) is not None:
        return contextmanager(wrapper)()(_collect)
    if (look := getattr(plugin, "collect_unraisable", None)) is None:
        return _collect

    def collect() -> None:
        gc.collect(2 if gc.get_objects(2) else 1)  # as _collect: each function that is called costs pages
        look(config)

    return collect


def _collect() -> None:
    """Collect what this process has made: all else is frozen.

    The young generations cost an empty test a page. A collection of all of them empties Python's lists of spare
    objects as well, which are the parent's, and costs forty. So it is done only where something has grown old here.
    """
    gc.collect(2 if gc.get_objects(2) else 1)


def forget_last_error() -> None:
    """Of a test that failed: pytest keeps it until the next one, and with it the frames and all that they hold."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        with suppress(AttributeError):
            delattr(sys, name)
