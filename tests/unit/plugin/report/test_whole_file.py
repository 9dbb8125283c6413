"""A file is written as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_isolate.plugin.report.whole_file import write_whole
from tests.support.short_files import short_files


def test_a_file_is_written_with_its_folders_and_replaces_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    for text in ("first\n", "second \udc80\n"):
        write_whole(str(path), text)

    assert path.read_text() == "second \\udc80\n"
    assert os.listdir(tmp_path / "new") == ["file"]


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with short_files(), pytest.raises(OSError, match="too large"):
        write_whole(str(tmp_path / "file"), "x" * 20_000)

    assert (tmp_path / "file").read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]
