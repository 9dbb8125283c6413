"""Playwright, whose objects of the session are the ends of pipes to its driver: no two processes can use them.

pytest-playwright's fixtures ask for its ``playwright``, which is enough to name. A project's own fixtures are known by
the function that they call. A driver of selenium asks its process by TCP, and so can be used from inside; but a
browser outside does not see a server inside, which pytest-django's ``live_server`` is.
"""

from __future__ import annotations

import inspect
import os
from contextlib import suppress
from functools import cached_property
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.integrations.servers import package_of

_PACKAGES = ("pytest_playwright", "pytest_playwright_asyncio")
_STARTS = {"sync_playwright", "async_playwright"}
_ARTIFACTS = ("--tracing", "--video", "--screenshot")


class Browsers(Integration):
    """Each sandbox has a browser of its own, and writes screenshots and the like where people look for them."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        named = [getattr(plugin, "__name__", "") for plugin in config.pluginmanager.get_plugins()]
        packages = {name.partition(".")[0] for name in named}
        self._has_django = "pytest_django" in packages
        wanted = not packages.isdisjoint(_PACKAGES) and any(
            config.getoption(option, "off") != "off" for option in _ARTIFACTS
        )
        self._output = os.path.abspath(config.getoption("--output")) if wanted else None

    def is_inside(self, definition: pytest.FixtureDef[Any]) -> bool:
        if definition.argname == "playwright" and package_of(definition) in _PACKAGES:
            return True
        code = getattr(inspect.unwrap(definition.func), "__code__", None)
        names = getattr(code, "co_names", ())
        return not _STARTS.isdisjoint(names) or ("webdriver" in names and self._serves_inside)

    @cached_property
    def _serves_inside(self) -> bool:
        """Whether any test of the run asks for pytest-django's server."""
        items = getattr(self.config.pluginmanager.getplugin("session"), "items", ())
        return self._has_django and any("live_server" in getattr(item, "fixturenames", ()) for item in items)

    def folders(self, item: pytest.Item) -> list[str]:
        """The folder of what the plugin keeps of a test, which its first fixture removes."""
        if self._output is None:
            return []
        with suppress(OSError):  # one that cannot be made would keep nothing in a plain run either
            os.makedirs(self._output, exist_ok=True)
            return [self._output]
        return []

    def finish(self) -> None:
        if self._output is not None:
            with suppress(OSError):  # it has something
                os.rmdir(self._output)
