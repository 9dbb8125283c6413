"""What is copied out of a layer that its test may have made to mislead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.sandbox.outcome import Change
from pytest_isolate.session.kept import layer_copy

LAYERS = (WritableLayer(upper="skeleton", seen="/", skeleton=True), WritableLayer(upper="u0", seen="/home"))


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    (tmp_path / "scratch" / "u0" / "folder").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "secret").write_text("of the host")
    return tmp_path / "scratch" / "u0"


@pytest.fixture
def scratch(upper: Path) -> Iterator[Fd]:
    fd = os.open(upper.parent, os.O_RDONLY)
    yield Fd(fd)
    os.close(fd)


def copy(scratch: Fd, kept: Path, *changes: str) -> list[str]:
    top = os.open(kept, os.O_RDONLY)
    try:
        return layer_copy.copy(scratch, LAYERS, [Change(each[0], each[2:]) for each in changes], top)  # type: ignore[arg-type]
    finally:
        os.close(top)


def test_files_links_and_folders_are_copied_to_their_own_paths(scratch: Fd, upper: Path, tmp_path: Path) -> None:
    (upper / "folder" / "text").write_text("new")
    (upper / "folder" / "text").chmod(0o4755)
    (upper / "link").symlink_to("/etc/passwd")

    assert copy(scratch, tmp_path / "kept", "A /home/folder/text", "A /home/link", "D /home/gone") == []

    text = tmp_path / "kept" / "home" / "folder" / "text"
    assert text.read_text() == "new"
    assert text.stat().st_mode & 0o7777 == 0o755
    assert os.readlink(tmp_path / "kept" / "home" / "link") == "/etc/passwd"
    assert not (tmp_path / "kept" / "home" / "gone").exists()


def test_no_link_is_followed(scratch: Fd, upper: Path, tmp_path: Path) -> None:
    (upper / "way").symlink_to(tmp_path)
    (lost,) = copy(scratch, tmp_path / "kept", "A /home/way/secret")
    assert lost.startswith("/home/way/secret: ")
    assert not list((tmp_path / "kept").rglob("secret"))


def test_no_link_is_followed_in_what_is_kept(scratch: Fd, upper: Path, tmp_path: Path) -> None:
    """A process that goes on replaces a link by a folder while the keeper copies."""
    (tmp_path / "kept" / "home").mkdir()
    (tmp_path / "kept" / "home" / "folder").symlink_to(tmp_path)
    (upper / "folder" / "text").write_text("new")
    (lost,) = copy(scratch, tmp_path / "kept", "A /home/folder/text")
    assert lost.startswith("/home/folder/text: ")
    assert not (tmp_path / "text").exists()


def test_a_pipe_is_not_kept_and_is_named(scratch: Fd, upper: Path, tmp_path: Path) -> None:
    os.mkfifo(upper / "pipe")
    (lost,) = copy(scratch, tmp_path / "kept", "A /home/pipe")
    assert lost == "/home/pipe: a device node, a socket or a pipe is not kept"


def test_holes_count_nothing(scratch: Fd, upper: Path) -> None:
    (upper / "large").touch()
    os.truncate(upper / "large", 1 << 40)
    assert layer_copy.measure(scratch, LAYERS, [Change("A", "/home/large")]) < 1 << 20
