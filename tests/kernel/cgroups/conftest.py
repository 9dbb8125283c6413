from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_isolate.cgroups.discovery import find
from pytest_isolate.cgroups.interface import CgroupTree
from pytest_isolate.cgroups.session_names import session_name
from tests.support.in_cgroups import GIVEN


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    found = find(session_name(), "main", GIVEN)
    yield found
    found.close()
