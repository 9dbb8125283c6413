"""Scratch directories on disk, and those that killed sessions left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_isolate.cgroups.session_names import session_name
from pytest_isolate.sandbox import scratch_dir


def test_what_a_dead_session_left_is_removed_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    living = session_name()
    dead = re.sub(r"\d+$", lambda found: str(int(found[0]) + 1), living)  # another process had this number
    others = {"somebody-else-s", "pytest-isolate-ns"}  # a clone of this project, for one
    for name in (f"{living}.gw0", f"{dead}.gw0", f"{dead}.main", *others):
        (tmp_path / name / "below").mkdir(parents=True)
    with scratch_dir.directory(str(tmp_path), f"{living}.gw1") as made:
        assert {each.name for each in tmp_path.iterdir()} == {f"{living}.gw0", *others, Path(made).name}
        assert Path(made).stat().st_mode & 0o777 == 0o700
    assert not Path(made).exists()


def test_what_another_session_has_just_swept_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = re.sub(r"\d+$", lambda found: str(int(found[0]) + 1), session_name())
    monkeypatch.setattr(Path, "glob", lambda place, _: iter([place / f"{dead}.main"]))

    with scratch_dir.directory(str(tmp_path), f"{session_name()}.main") as made:
        assert Path(made).exists()
