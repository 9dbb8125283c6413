"""What counts as changed in a skeleton, whose entries stand in for the host's."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import Plan, WritableLayer
from pytest_isolate.sandbox.changed_files import changes


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize(("content", "found"), [("", []), ("changed", ["M"])])
def test_an_empty_file_stands_for_one_that_cannot_be_read(content: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("secret")
    (tmp_path / "host/secret").chmod(0)
    (tmp_path / "scratch/upper").mkdir(parents=True)
    (tmp_path / "scratch/upper/secret").write_text(content)

    assert changes_in(tmp_path / "scratch", over=tmp_path / "host", skeleton=True) == found


@pytest.mark.parametrize(("last", "found"), [("host", []), ("scratch/upper", ["M"])])
@pytest.mark.parametrize("modified", [500, 1500])
def test_a_file_that_somebody_else_wrote_to_meanwhile_is_none_of_the_tests(
    last: str, found: list[str], modified: int, tmp_path: Path
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "scratch/upper").mkdir(parents=True)
    for place in ("host", "scratch/upper"):
        (tmp_path / place / "log").write_text("line\n")
        os.utime(tmp_path / place / "log", (1000, 1000))
    assert changes_in(tmp_path / "scratch", over=tmp_path / "host", skeleton=True) == []

    time.sleep(0.02)  # more than a tick of the kernel's clock for files
    (tmp_path / last / "log").write_text("another\n")
    os.utime(tmp_path / last / "log", (modified, modified))
    assert changes_in(tmp_path / "scratch", over=tmp_path / "host", skeleton=True) == found


@pytest.mark.parametrize("layer", ["skeleton", "overlay"])
def test_a_layer_that_the_test_left_alone_is_not_even_read(layer: str, on_tmpfs: Path, tmp_path: Path) -> None:
    upper = on_tmpfs / "upper"
    upper.mkdir()
    mark_unread(upper)
    assert changes_in(on_tmpfs, over=tmp_path, skeleton=layer == "skeleton") == []
    assert not is_read(upper)

    (upper / "made").mkdir()
    mark_unread(upper)
    assert changes_in(on_tmpfs, over=tmp_path, skeleton=layer == "skeleton") == ["A"]
    assert is_read(upper)


def test_directories_that_only_carry_a_mount_are_not_even_read(on_tmpfs: Path, tmp_path: Path) -> None:
    below = on_tmpfs / "upper/below"
    below.mkdir(parents=True)
    (tmp_path / "below").mkdir()
    below.chmod((tmp_path / "below").stat().st_mode)
    mark_unread(below)
    assert changes_in(on_tmpfs, over=tmp_path, skeleton=True) == []
    assert not is_read(below)


def mark_unread(directory: Path) -> None:
    os.utime(directory, (0, 0))


def is_read(directory: Path) -> bool:
    """Whether somebody read it since it was marked: the kernel then sets the time of access (mount(8), relatime)."""
    return directory.stat().st_atime != 0


@pytest.fixture
def on_tmpfs() -> Iterator[Path]:
    kind = subprocess.run(["stat", "-f", "-c%T", "/dev/shm"], check=False, capture_output=True, text=True).stdout
    if kind != "tmpfs\n":
        pytest.skip("no tmpfs on /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def changes_in(scratch: Path, *, over: Path, skeleton: bool) -> list[str]:
    """The kinds of changes in the scratch directory's layer "upper"."""
    layers = (WritableLayer(upper="upper", seen=str(over), skeleton=skeleton),)
    fd = Fd(os.open(scratch, os.O_RDONLY))
    try:
        return [change.kind for change in changes(fd, Plan(namespaces=Clone(0), layers=layers).host_layers)]
    finally:
        os.close(fd)
