"""pytest-dependency: how tests ended, for those that depend on them."""

from __future__ import annotations

from pytest_isolate.plugin.integrations.integration import Integration


class Dependency(Integration):
    """It keeps that in its ``pytest_runtest_makereport``."""

    makereport_outside = ("dependency", "pytest_dependency")
