"""The library's front."""

from __future__ import annotations

import pytest

import pytest_isolate


@pytest.mark.parametrize("name", pytest_isolate.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(pytest_isolate, name).__name__ == name
