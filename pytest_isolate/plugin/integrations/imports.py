"""Modules that tests import, each anew in its own sandbox, as none was imported before.

In a plain run a module that one test has imported is there for all that follow. Here those of Python's standard library
are imported in pytest's process as soon as two tests have: importing them does nothing but define things. What other
modules do when they are imported is to stay in the sandbox; of them the summary tells, as they take time in each test.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations import xdist
from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.messages import Send

_IMPORTED: pytest.StashKey[dict[str, tuple[int, int]]] = pytest.StashKey()
_LIBRARY = os.path.dirname(os.__file__) + os.sep
#: Of the standard library, and not to be imported unasked: these open windows, change the terminal, print, or are run.
_ACTIVE = {
    *("antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "pdb", "readline", "rlcompleter", "test", "this"),
    *("tkinter", "turtle", "turtledemo", "_pyrepl"),
}
_PATCHING = ("gevent.monkey", "eventlet")  # these patch modules, and want to come before they are imported
_OFTEN = 2  # tests that import one, before this process does
_OURS = ("_pytest", "pytest_isolate")  # parts of these come late, if a test fails, for one


class Imports(Integration):
    """A test that imports nothing costs one look at how many modules there are."""

    kinds = (messages.IMPORTS,)

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._seen: Counter[str] = Counter()

    def after(self) -> Callable[[Send], None]:
        return partial(_tell, len(sys.modules))

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        library, others = data
        self._seen.update(map(str, library))
        for name in library:
            if self._seen[name] == _OFTEN:
                _import(name)
        names = (package for package in others if package.isidentifier())  # else the terminal would be the test's
        add(self.config, {package: (int(others[package]), 1) for package in names})

    def finish(self) -> None:
        xdist.leave_imports(self.config, imported(self.config))


def imported(config: pytest.Config) -> dict[str, tuple[int, int]]:
    """How many modules tests have imported anew, by package, and in how many tests; this session's own dict."""
    return config.stash.setdefault(_IMPORTED, {})


def add(config: pytest.Config, more: Mapping[str, tuple[int, int]]) -> None:
    """Of some other tests, or of a worker of xdist."""
    known = imported(config)
    for package, (modules, tests) in more.items():
        before = known.get(package, (0, 0))
        known[package] = (before[0] + modules, before[1] + tests)


def _tell(known: int, send: Send) -> None:
    """In the child, after the test. :param known: how many modules there were before the fork."""
    found = None
    with suppress(Exception):  # a test may have put anything into sys.modules, or in its place
        found = _imported_since(known)
    if found is not None:
        send((messages.IMPORTS, found))


def _imported_since(known: int) -> tuple[list[str], Counter[str]] | None:
    """Modules of the standard library; of others how many, by package."""
    if len(sys.modules) <= known or any(name in sys.modules for name in _PATCHING):
        return None
    library: list[str] = []
    others: Counter[str] = Counter()
    for name in [*sys.modules][known:]:
        package = name.partition(".")[0]
        if package in sys.stdlib_module_names:
            library.append(name)
        elif package not in _OURS:
            others[package] += 1
    return library, others


def _import(name: str) -> None:
    """Import a module, if it is really the standard library's that this process finds by that name."""
    package = name.partition(".")[0]
    if package not in sys.stdlib_module_names or package in _ACTIVE or "__main__" in name or name in sys.modules:
        return
    with warnings.catch_warnings(), suppress(Exception):  # it is another test's if it cannot be imported
        warnings.simplefilter("ignore")
        if _is_librarys(package) and _is_librarys(name):
            importlib.import_module(name)


def _is_librarys(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    origin = None if spec is None else spec.origin
    return origin is not None and origin.startswith(_LIBRARY) and "-packages" not in origin
