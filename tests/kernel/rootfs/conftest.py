from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.in_sandbox import ROOT


@pytest.fixture(params=["root", "rootless"] if ROOT else ["rootless"])
def layout(request: pytest.FixtureRequest) -> str:
    """Both layouts; root can have either."""
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the host's in the temporary folder, as a project might have, which the test can see."""
    with tempfile.TemporaryDirectory(prefix="isolate-test-") as name:
        yield Path(os.path.realpath(name))
