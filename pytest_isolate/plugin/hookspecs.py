"""Hooks that pytest-isolate-ns offers to conftest files and other plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.spec.spec import Spec


@pytest.hookspec(firstresult=True)
def pytest_isolate_spec(item: pytest.Item, spec: Spec) -> Spec | None:
    """Return the Spec to run ``item`` in instead of ``spec``, or None to keep it; called at the end of collection."""


@pytest.hookspec
def pytest_isolate_outcome(item: pytest.Item, outcome: Outcome) -> None:
    """See how ``item`` ended in its sandbox and what it used; called in the pytest process, before its reports."""
