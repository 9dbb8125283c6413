"""What the documentation lets a reader do comes out as it shows."""

from __future__ import annotations

import pytest

from tests.support.documents import REPOSITORY
from tests.support.project import Project
from tests.support.walk import walk

pytestmark = pytest.mark.needs("sandbox", "memory")


@pytest.mark.parametrize(
    ("page", "commands"),
    [
        pytest.param("README.md", 1, marks=pytest.mark.needs("cpu", "pids")),
        ("docs/tutorial.md", 10),
        ("docs/howto.md", 13),
    ],
)
def test_a_page_shows_what_a_reader_sees(
    page: str, commands: int, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert walk(REPOSITORY / page, project, monkeypatch) == commands
