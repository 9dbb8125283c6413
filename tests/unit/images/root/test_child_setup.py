"""What a shared object needs, as its file says it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_isolate.images.root.child_setup import dynamic
from pytest_isolate.linux import native

_HEADER = b"\x7fELF" + bytes([2, 1 if sys.byteorder == "little" else 2])


def test_the_c_library_is_found_among_what_a_module_needs() -> None:
    needed, _ = dynamic(str(next(native.BUILDER.parent.glob("_atfork*.so"))))
    assert [name for name in needed if name.startswith("libc.")]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(_HEADER[:4], id="cut off"),
        pytest.param(_HEADER.ljust(64, b"\0"), id="without segments"),
        pytest.param(_HEADER.ljust(64, b"\xff"), id="segments beyond all"),
    ],
)
def test_what_is_no_shared_object_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    """Nothing else: the import of a module would fail by it, which says itself what is wrong."""
    path = tmp_path / "x.so"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.so|no names|1844"):
        dynamic(str(path))
