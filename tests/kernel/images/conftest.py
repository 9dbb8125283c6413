from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.images.store.store import Store
from pytest_isolate.linux.remove_tree import remove_tree


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    place = tmp_path / "store"
    yield Store(place)
    if place.exists():
        remove_tree(place)
