from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_isolate.session.cluster import Network
from pytest_isolate.session.keeper import Keeper


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        yield keeper


@pytest.fixture
def network(keeper: Keeper) -> Iterator[Network]:
    with Network(keeper) as network:
        yield network
