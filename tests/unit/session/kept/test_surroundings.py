"""Which variables are stored with a kept layer."""

from __future__ import annotations

import os
import subprocess
import sys

_LOOK = """
import json, os
from pytest_isolate.session.kept.surroundings import changed_environment
os.environ["ADDED"] = "1"
os.environ["CHANGED"] = "2"
del os.environ["REMOVED"]
os.environ["PYTEST_CURRENT_TEST"] = "test_it"
print(json.dumps(changed_environment(os.environ)))
"""


def test_those_that_have_changed_since_the_session_began_and_no_secrets_of_before() -> None:
    env = {**os.environ, "CHANGED": "1", "REMOVED": "1", "SECRET": "x"}
    shown = subprocess.run([sys.executable, "-c", _LOOK], env=env, capture_output=True, text=True, check=True).stdout
    assert shown == '[["ADDED", "1"], ["CHANGED", "2"], ["REMOVED", null]]\n'
