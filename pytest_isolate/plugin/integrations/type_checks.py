"""pytest-mypy and pytest-mypy-testing: one run of mypy, of which each of their items reads its part.

The first item runs mypy, and keeps what it says for the others: in memory, or in a file of the temporary folder, which
pytest-mypy's summary reads at the end. In a sandbox both would be gone, each item would run mypy over all files again,
and there would be no summary. So mypy runs here, as a fixture of the session would.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class TypeChecks(Integration):
    """What goes wrong here goes wrong once more in the item, which says so."""

    def before(self, item: pytest.Item, attempts: int) -> None:
        """Have mypy run, if it has not."""
        name = type(item).__module__.partition(".")[0]
        with suppress(Exception):
            if name == "pytest_mypy":
                sys.modules[name].MypyResults.from_session(item.session)
            elif name == "pytest_mypy_testing":
                checked: Any = item
                checked.parent.run_mypy(checked.mypy_item)
