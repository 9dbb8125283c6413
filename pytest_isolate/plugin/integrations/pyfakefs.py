"""pyfakefs: our modules keep the real file system.

Its fixtures replace ``os``, ``open`` and the like in all loaded modules but those of ``Patcher.SKIPMODULES``, to which
plugins of pytest may add theirs; seen with 5.0 to 6.3. What works by :mod:`pytest_isolate.linux.calls` would do
without; the rest, as ``os.environ`` and ``os.path``, should not meet a fake either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class PyFakeFs(Integration):
    """Told once, as soon as it is loaded: by its plugin at the start, or by a test module."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._told = False
        self._tell()

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """Nothing to do in the child."""
        self._tell()
        return None

    def _tell(self) -> None:
        if self._told or (theirs := sys.modules.get("pyfakefs.fake_filesystem_unittest")) is None:
            return
        self._told = True
        skipped = getattr(getattr(theirs, "Patcher", None), "SKIPMODULES", None)
        if isinstance(skipped, set):
            skipped.update(module for name, module in [*sys.modules.items()] if name.startswith("pytest_isolate."))
