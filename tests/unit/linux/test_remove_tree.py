"""What a test may leave is removed: directories without permissions, and deeper ones than a path can name."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.remove_tree import remove_tree

_DEEP = 500  # a path to the last would be longer than PATH_MAX
_NAME = "directory"


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 80, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def make_deep(top: Path) -> None:
    """Each has a file and a link that leads out beside the next, and no permissions."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(_DEEP):
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
        os.symlink(top.parent / "outside", "link", dir_fd=at)
        os.mkdir(_NAME, dir_fd=at)
        inner = os.open(_NAME, os.O_RDONLY, dir_fd=at)
        os.fchmod(at, 0)
        os.close(at)
        at = inner
    os.close(at)


@pytest.mark.usefixtures("few_descriptors")
def test_a_tree_is_removed_however_deep_and_nothing_beside_it(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (tmp_path / "outside").mkdir(mode=0o500)
    (top / ".isolate-deep-0/directory").mkdir(parents=True)  # the names that deep directories are moved to
    (top / ".isolate-deep-1").touch()
    make_deep(top)

    remove_tree(top)

    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o500


def test_a_file_and_a_link_are_removed_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")

    remove_tree(tmp_path / "link")
    assert os.listdir(tmp_path) == ["file"]
    remove_tree(tmp_path / "file")
    remove_tree(tmp_path / "not there")

    assert os.listdir(tmp_path) == []


def test_what_stays_is_an_error_with_its_reason_unless_errors_are_ignored() -> None:
    """The kernel removes nothing of /proc, not even for root."""
    with pytest.raises(OSError, match=r"not permitted|denied"):
        remove_tree(Path("/proc/self/fdinfo"))
    remove_tree(Path("/proc/self/fdinfo"), ignore_errors=True)
