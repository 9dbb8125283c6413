"""Whether an image's C library finds shared memory on an overlay."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_isolate.images.root.libc import needs_tmpfs
from pytest_isolate.images.root.merged_tree import Merged


@pytest.mark.parametrize(
    "library",
    [
        "usr/lib/x86_64-linux-gnu/libc-2.31.so",  # Debian 11
        "usr/lib64/libc-2.28.so",  # Red Hat 8
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "lib/libc.musl-x86_64.so.1",
    ],
)
def test_old_glibc_is_known_by_its_file(library: str, tmp_path: Path) -> None:
    (tmp_path / library).parent.mkdir(parents=True)
    (tmp_path / library).touch()
    for name in ("lib", "lib64"):  # as where /usr is merged
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(f"usr/{name}")
    assert needs_tmpfs(Merged([str(tmp_path)])) is ("libc-2." in library)


def test_an_image_without_libraries_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "lib").symlink_to("lib")
    (tmp_path / "usr").touch()
    assert not needs_tmpfs(Merged([str(tmp_path)]))
