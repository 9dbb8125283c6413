"""Projects that are run with the options only: a plugin of a few lines, so that nothing needs a sandbox.

A plugin itself: it has the fixture ``options``.
"""

from __future__ import annotations

import os

import pytest

from tests.support.project import QUICK
from tests.support.pytest_forkserver import ForkServer

OPTIONS_ONLY = """
import pytest
from pytest_isolate.plugin import hookspecs
from pytest_isolate.plugin.config import item_specs, options
from pytest_isolate.plugin.integrations import xdist

def pytest_addoption(parser):
    options.add_options(parser)

def pytest_addhooks(pluginmanager):
    pluginmanager.add_hookspecs(hookspecs)

def pytest_configure(config):
    options.configure(config)

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    item_specs.check_items(config, items)

@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    xdist.raise_errors(node)

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    with open("specs.txt", "a") as file:
        file.write(f"{item.name}: {item_specs.spec_for(item)}\\n")
    return True
"""


@pytest.fixture
def options(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forkserver: ForkServer) -> Options:
    return Options(pytester, monkeypatch, forkserver)


class Options:
    """A project in a folder of its own, run with the options only."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forkserver: ForkServer) -> None:
        for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT", "PYTEST_PLUGINS"):
            monkeypatch.delenv(name, raising=False)
        pytester.makepyfile(options_only=OPTIONS_ONLY)
        monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
        self._pytester = pytester
        self._forkserver = forkserver

    def run(self, *arguments: str) -> pytest.RunResult:
        known = ("-p", "no:pytest_isolate", "-p", "options_only", "-p", "no:cacheprovider")
        return self._forkserver.run(self._pytester, [*known, *QUICK, *arguments])

    def specs(self, *arguments: str) -> dict[str, str]:
        """Each test that ran, with its Spec as text."""
        result = self.run(*arguments)
        assert not result.errlines, result.errlines
        written = self._pytester.path.joinpath("specs.txt")
        lines = written.read_text().splitlines()
        written.unlink()
        return dict(line.split(": ", 1) for line in lines)

    def errors(self, *arguments: str) -> list[str]:
        """The lines of a usage error."""
        result = self.run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, result.outlines
        return [line.removeprefix("ERROR: ") for line in result.errlines if line]
