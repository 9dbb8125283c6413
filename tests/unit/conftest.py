from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests.support.cgroup_host import Host

# The same examples each time, however slow the machine, and nothing of them in the checkout.
settings.register_profile("unit", derandomize=True, database=None, deadline=None)
settings.load_profile("unit")
set_hypothesis_home_dir(f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)
