"""A kept layer's changes are made once more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.session.kept.put_back import put_back


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder that is changed."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture
def kept(tmp_path: Path, there: Path) -> Path:
    """What is kept of it."""
    folder = tmp_path / "kept" / str(there).strip("/")
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def top(tmp_path: Path, kept: Path) -> Iterator[int]:
    assert kept.is_dir()
    fd = os.open(tmp_path / "kept", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_files_links_folders_and_what_was_deleted(there: Path, kept: Path, top: int) -> None:
    (there / "gone" / "within").mkdir(parents=True)
    (there / "changed").write_text("a long text of before")
    (kept / "changed").write_text("new")
    (kept / "changed").chmod(0o751)
    (kept / "made").mkdir(0o750)
    (kept / "made" / "file").write_text("file")
    (kept / "link").symlink_to("/etc/passwd")

    changes = [("D", "gone"), ("M", "changed"), ("A", "made"), ("A", "made/file"), ("A", "link"), ("D", "never")]
    assert put_back(top, [(kind, f"{there}/{name}") for kind, name in changes]) == []

    assert sorted(path.name for path in there.rglob("*")) == ["changed", "file", "link", "made"]
    assert (there / "changed").read_text() == "new"
    assert (there / "changed").stat().st_mode & 0o777 == 0o751
    assert (there / "made").stat().st_mode & 0o777 == 0o750
    assert os.readlink(there / "link") == "/etc/passwd"


def test_what_is_of_another_kind_by_now_gives_way(there: Path, kept: Path, top: int) -> None:
    outside = there.parent / "outside"
    outside.write_text("untouched")
    (there / "file").mkdir()
    (there / "file" / "within").touch()
    (there / "through").symlink_to(outside)
    (there / "folder").touch()
    (there / "link").mkdir()
    for name in ("file", "through"):
        (kept / name).write_text(name)
    (kept / "folder").mkdir()
    (kept / "link").symlink_to("file")

    assert put_back(top, [("M", f"{there}/{name}") for name in ("file", "through", "folder", "link")]) == []

    assert [(there / name).read_text() for name in ("file", "through", "link")] == ["file", "through", "file"]
    assert (there / "folder").is_dir()
    assert outside.read_text() == "untouched"


def test_a_folder_is_closed_when_all_in_it_is_there(there: Path, kept: Path, top: int) -> None:
    (kept / "closed").mkdir()
    (kept / "closed" / "file").touch()
    (kept / "closed").chmod(0o500)

    assert put_back(top, [("A", f"{there}/closed"), ("A", f"{there}/closed/file")]) == []

    assert (there / "closed").stat().st_mode & 0o777 == 0o500
    assert (there / "closed" / "file").exists()


def test_a_folder_that_is_no_more_is_made_again_for_what_was_in_it(there: Path, kept: Path, top: int) -> None:
    (kept / "of pytest" / "deep").mkdir(parents=True)
    (kept / "of pytest" / "deep" / "file").write_text("file")

    assert put_back(top, [("A", f"{there}/of pytest/deep/file")]) == []

    assert (there / "of pytest" / "deep" / "file").read_text() == "file"


def test_what_is_not_kept_or_has_no_place_is_named(there: Path, top: int, kept: Path) -> None:
    (there / "a file").touch()
    (kept / "a file").mkdir()
    (kept / "a file" / "within").touch()
    assert put_back(top, [("A", f"{there}/missing"), ("A", f"{there}/a file/within")]) == [
        f"{there}/missing: No such file or directory",
        f"{there}/a file/within: File exists",
    ]
