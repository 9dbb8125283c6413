"""``python -m tests.endurance`` for a moment, so that it works when it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance import kills, many
from tests.endurance.machine import Machine

pytestmark = pytest.mark.needs("sandbox")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "tmp").mkdir()
    return Machine(tmp_path / "tmp")


def test_what_is_held_after_the_first_tests_is_all_that_is_held(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert many.run(110, machine, tmp_path / "many"), capsys.readouterr().out
    assert "after 100 tests and after 110:" in capsys.readouterr().out


def test_what_is_left_is_found_and_named(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.endurance.machine.PATIENCE", 0.1)
    (tmp_path / "tmp" / "left").mkdir()
    assert machine.left() == {"folders": 1}
    assert not kills._look("it", machine)
    assert "LEFT after it: {'folders': 1}" in capsys.readouterr().out
