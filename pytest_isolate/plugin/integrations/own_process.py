"""psutil: an object for pytest's own process that a module or a fixture has made is the test's process inside.

``psutil.Process()`` in a conftest.py file, to compare memory or descriptors before and after a test, means the process
that runs tests. Its number is of no process inside, or of another one: each question raised ``NoSuchProcess``.

Private: ``Process._pid``, ``_proc``, ``_ident`` and ``_init``; psutil 5.9 to 7.2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.integrations.session_processes import Session

_PARTS = ("_pid", "_proc", "_ident")


class OwnProcess(Integration):
    """Costs a look-up in ``sys.modules`` where psutil is not used."""

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        psutil: Any = sys.modules.get("psutil")
        process = getattr(psutil, "Process", None)
        return partial(_follow, process, calls.getpid()) if hasattr(process, "_init") else None


def _follow(kind: Any, outside: int) -> None:
    """In the child, which ends with the test: nothing is put back."""
    inside = calls.getpid()  # not of a process that the test forks, for which this is still the test
    asked: dict[int, Any] = {}  # by id, and alive, so that no other one gets it

    def move(process: Any) -> dict[str, Any]:
        known: dict[str, Any] = vars(process)
        # In a session sandbox the two numbers are the same, mostly; what an object remembers beside it is not.
        if known.get("_pid") == outside and id(process) not in asked:
            asked[id(process)] = process
            if Session.is_older(process):
                known["_pid"] = inside  # first, as the rest asks for it
                process._init(inside)
        return known

    for name in _PARTS:
        setattr(kind, name, _Part(name, move))


class _Part:
    """An attribute that is up to date when somebody asks for it. To look for all objects before would be dear."""

    def __init__(self, name: str, move: Callable[[Any], dict[str, Any]]) -> None:
        self._name = name
        self._move = move

    def __get__(self, process: Any, kind: type | None = None) -> Any:
        if process is None:
            return self
        known = self._move(process)
        if self._name not in known:
            raise AttributeError(self._name)
        return known[self._name]

    def __set__(self, process: Any, value: object) -> None:
        vars(process)[self._name] = value
