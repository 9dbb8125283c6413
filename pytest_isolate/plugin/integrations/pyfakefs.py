"""pyfakefs: our modules keep the real file system, and it looks through all modules once, not in each sandbox.

Its fixtures replace ``os``, ``open`` and the like in all loaded modules but those of ``Patcher.SKIPMODULES``, to which
plugins of pytest may add theirs; seen with 5.0 to 6.3. What works by :mod:`pytest_isolate.linux.calls` would do
without; the rest, as ``os.environ`` and ``os.path``, should not meet a fake either.

What it finds in the modules it keeps for all tests that follow. With pandas that look takes a second.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class PyFakeFs(Integration):
    """Told once, as soon as it is loaded: by its plugin at the start, or by a test module."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._told = self._has_looked = False
        self._tell()

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """Nothing to do in the child."""
        self._tell()
        if self._told and not self._has_looked and _fakes(item):
            self._has_looked = True
            _look(sys.modules["pyfakefs.fake_filesystem_unittest"])
        return None

    def _tell(self) -> None:
        if self._told or (theirs := sys.modules.get("pyfakefs.fake_filesystem_unittest")) is None:
            return
        self._told = True
        skipped = getattr(getattr(theirs, "Patcher", None), "SKIPMODULES", None)
        if isinstance(skipped, set):
            skipped.update(module for name, module in [*sys.modules.items()] if name.startswith("pytest_isolate."))


def _fakes(item: pytest.Item) -> bool:
    """Whether the test has a file system faked, as far as it shows before it runs."""
    bases = getattr(getattr(item, "cls", None), "__mro__", ())
    return "fs" in getattr(item, "fixturenames", ()) or any(base.__name__ == "TestCaseMixin" for base in bases)


def _look(theirs: Any) -> None:
    """Have it look through the modules as its first test would, but replace nothing.

    Private: ``_find_modules``, in 5.10 and 6.3. All else that has it look sets up a fake file system, for all threads.
    """
    patcher = theirs.Patcher
    with suppress(Exception), warnings.catch_warnings():  # the test will say what it is
        warnings.simplefilter("ignore")
        if not patcher.CACHED_MODULES and patcher.PATCHER is None:
            try:
                patcher()._find_modules()
            finally:
                patcher.PATCHER = None  # it keeps one object of the class
