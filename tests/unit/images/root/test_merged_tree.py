"""Layers laid over one another, as the kernel would."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_isolate.images.root.merged_tree import Merged, differences


def _links(tmp_path: Path) -> Merged:
    (tmp_path / "top/usr/bin").mkdir(parents=True)
    (tmp_path / "low/usr/lib").mkdir(parents=True)
    (tmp_path / "low/usr/lib/x").write_text("x")
    (tmp_path / "low/lib").symlink_to("usr/lib")
    (tmp_path / "low/loop").symlink_to("loop")
    (tmp_path / "low/out").symlink_to("/../../etc")
    return Merged([str(tmp_path / "top"), str(tmp_path / "low")])


def test_links_are_followed_within_the_image(tmp_path: Path) -> None:
    merged = _links(tmp_path)
    path, found = merged.resolve("/lib/x")
    assert path == "/usr/lib/x"
    assert found is not None
    assert found.real == (str(tmp_path / "low/usr/lib/x"),)
    assert merged.resolve("/out/passwd") == ("/etc/passwd", None)
    assert merged.resolve("/lib/new/../x")[0] == "/usr/lib/x"
    with pytest.raises(OSError, match="Too many levels"):
        merged.resolve("/loop/x")
    with pytest.raises(NotADirectoryError):
        merged.resolve("/lib/x/y")
    assert merged.at("/lib/x") is None  # takes no links


def test_directories_are_merged_and_the_topmost_says_what_they_are(tmp_path: Path) -> None:
    merged = _links(tmp_path)
    usr = merged.at("/usr")
    assert usr is not None
    assert merged.names(usr) == ["bin", "lib"]
    assert usr.real[0] == str(tmp_path / "top/usr")
    assert list(differences(Merged([str(tmp_path / "top")]), merged)) == [
        ("A", "/lib"),
        ("A", "/loop"),
        ("A", "/out"),
        ("A", "/usr/lib"),
        ("A", "/usr/lib/x"),
    ]
