from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.plugin.run.lasting import lasting


def test_hooks_last_where_the_configuration_has_a_proxy_of_them_too(pytestconfig: pytest.Config) -> None:
    manager = pytestconfig.pluginmanager
    config: Any = SimpleNamespace(pluginmanager=manager, hook=SimpleNamespace(_hook_relay=manager.hook))  # pytest 8
    assert any(one is manager.hook.pytest_runtest_setup for one in lasting(config))
