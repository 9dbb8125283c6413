"""A directory is opened without leaving the tree that it lies in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.openat import open_directory


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "a/link").symlink_to("b")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"]])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_a_directory_is_opened_anew(tmp_path: Path, top: int, names: list[str], flags: int) -> None:
    found = open_directory(top, names, flags)
    assert found != top
    assert os.fstat(found).st_ino == tmp_path.joinpath(*names).stat().st_ino
    os.close(found)
    os.fstat(top)


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a", "c"], FileNotFoundError),
        (["c", "b"], FileNotFoundError),
        (["a", "file"], NotADirectoryError),
        (["a", "link"], NotADirectoryError),
        (["a", "link", "x"], NotADirectoryError),
    ],
)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_no_link_is_followed_and_nothing_stays_open(
    top: int, names: list[str], error: type[Exception], flags: int
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error):
        open_directory(top, names, flags)
    assert os.listdir("/proc/self/fd") == before
