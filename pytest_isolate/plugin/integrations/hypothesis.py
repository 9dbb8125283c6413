"""Hypothesis: the folder in which it keeps failing examples for later runs, and its source of random numbers.

Private: ``hypothesis.internal.entropy.deterministic_PRNG``, and ``_hypothesis_global_random`` of ``hypothesis.core`` or
of its ``threadlocal``; seen in 6.170. A version that has neither draws its numbers as it would in any fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration

_SOURCE = "_hypothesis_global_random"


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
        if not _is_hypothesis(item):
            return []
        settings: Any = getattr(sys.modules["hypothesis"], "settings", None)
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

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """Have hypothesis make its source of random numbers here, and seed it anew in the child.

        It registers the source when it first needs it, and warns if the garbage collector knows of nothing that refers
        to it. In a child that would be a dict of before the fork, which is frozen there, and so is nobody's referrer.
        """
        core: Any = sys.modules.get("hypothesis.core")
        entropy: Any = sys.modules.get("hypothesis.internal.entropy")
        if core is None or not hasattr(entropy, "deterministic_PRNG"):
            return None
        holder = getattr(core, "threadlocal", core)
        if getattr(holder, _SOURCE, None) is None and _is_hypothesis(item):
            with entropy.deterministic_PRNG():
                pass
        return getattr(getattr(holder, _SOURCE, None), "seed", None)


def _is_hypothesis(item: pytest.Item) -> bool:
    return "hypothesis" in sys.modules and item.get_closest_marker("hypothesis") is not None  # which its plugin adds


def _make(examples: str) -> None:
    """By hypothesis itself where it can: it tells git to ignore its folder."""
    configuration: Any = sys.modules.get("hypothesis.configuration")
    storage: Any = configuration.storage_directory("examples") if configuration is not None else None
    if hasattr(storage, "create_if_missing") and os.fspath(storage.path) == examples:
        storage.create_if_missing()
    os.makedirs(examples, exist_ok=True)
