"""A second try of what the builder was to help with, where somebody has killed it meanwhile: that costs no test."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from typing import TypeVar

from pytest_isolate.spec.errors import SetupError

_Made = TypeVar("_Made")


def if_killed(undo: contextlib.ExitStack, make: Callable[[contextlib.ExitStack], _Made]) -> _Made:
    """What ``make`` returns, tried once more, with another builder, if its own has died.

    :param undo: takes what ends and removes all that ``make`` has made; of the first try, nothing is left by then.
    """
    with contextlib.ExitStack() as first:
        try:
            made = make(first)
        except SetupError as error:
            if error.errno != errno.EPIPE:  # it has not died
                raise
        else:
            undo.push(first.pop_all())
            return made
    return make(undo)
