"""Names of images are folders' names."""

from __future__ import annotations

from pathlib import Path

from pytest_isolate.spec import image_names


def test_names_of_images_are_the_folders(tmp_path: Path) -> None:
    for name in ("busybox", "debian-slim", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert image_names.in_folder(str(tmp_path)) == ["busybox", "debian-slim"]
    assert image_names.unknown("busibox", str(tmp_path)).endswith(
        "there are busybox, debian-slim. Did you mean busybox?"
    )


def test_without_images_it_says_how_to_bring_one_in(tmp_path: Path) -> None:
    text = image_names.unknown("alpine", str(tmp_path / "none"))
    assert text.startswith(f"there are no images in {tmp_path / 'none'}. ")
    assert "python -m pytest_isolate images pull" in text
