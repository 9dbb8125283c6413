"""Fixtures of class scope and higher in which a thread serves what tests change in memory.

A sandbox has no threads of pytest's process, and the server outside has another copy of what the test tells it, of the
settings that it changes, of the database that it has in memory. So each sandbox sets up a server of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_isolate.plugin.integrations.integration import Integration

#: Fixtures by the package of their plugin, as others may have the same name.
_SERVERS = {
    "make_httpserver": "pytest_httpserver",  # an object that each test tells what to answer
    "make_httpserver_ipv4": "pytest_httpserver",
    "make_httpserver_ipv6": "pytest_httpserver",
    "live_server": "pytest_django",  # the test's database and settings
    "sftpserver": "pytest_sftpserver",  # what each test has it serve
    "ftpserver": "pytest_localftpserver",  # files that the test's process writes for it
    "ftpserver_TLS": "pytest_localftpserver",
}


class Servers(Integration):
    """Seen with the plugins' versions of docs/neighbours.md; not asked again for a fixture once it is known."""

    def is_inside(self, definition: pytest.FixtureDef[Any]) -> bool:
        package = _SERVERS.get(definition.argname)
        return package is not None and package_of(definition) == package


def package_of(definition: pytest.FixtureDef[Any]) -> str:
    """The name of the package that has the fixture's function."""
    return str(getattr(definition.func, "__module__", "")).partition(".")[0]
