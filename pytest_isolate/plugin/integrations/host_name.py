"""``platform``, of the standard library: it remembers the host's name, and a sandbox has another one."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class HostName(Integration):
    """Has ``platform.uname()`` and ``platform.node()`` ask the kernel anew, where this process has asked already.

    Private: ``platform._uname_cache``, in CPython 3.9 to 3.15. It is emptied out here, as in each child that would copy
    a page.
    """

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """Nothing to do in the child."""
        if getattr(platform := sys.modules.get("platform"), "_uname_cache", None) is not None:
            platform._uname_cache = None  # type: ignore[union-attr] # it has that attribute
        return None
