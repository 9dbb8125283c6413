"""Hypothesis: the folder in which it keeps failing examples for later runs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class Hypothesis(Integration):
    """The test writes to that folder itself.

    The examples of each test have a folder of their own there, and are written so that several processes may.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        ends_early = getattr(config.option, "maxfail", 0) or getattr(config.option, "stepwise", False)
        self.shares_folders = not ends_early  # else examples would be kept of tests that were not to run

    def folders(self, item: pytest.Item) -> list[str]:
        """The folder, if the test is one of hypothesis'."""
        module = sys.modules.get("hypothesis")
        if module is None or item.get_closest_marker("hypothesis") is None:  # which its plugin adds
            return []
        settings: Any = getattr(module, "settings", None)
        database = getattr(getattr(settings, "default", None), "database", None)
        # None: kept in memory, or nowhere, or in a kind of database that we don't know
        path = getattr(database, "path", None)
        if path is None:
            return []
        examples = os.path.abspath(str(path))
        with suppress(OSError):  # a folder that cannot be written would keep nothing in a plain run either
            _make(examples)
            home, name = os.path.split(examples)
            return [home if name == "examples" else examples]  # .hypothesis, with tables that take long to make
        return []


def _make(examples: str) -> None:
    """By hypothesis itself where it can: it tells git to ignore its folder."""
    configuration: Any = sys.modules.get("hypothesis.configuration")
    storage: Any = configuration.storage_directory("examples") if configuration is not None else None
    if hasattr(storage, "create_if_missing") and os.fspath(storage.path) == examples:
        storage.create_if_missing()
    os.makedirs(examples, exist_ok=True)
