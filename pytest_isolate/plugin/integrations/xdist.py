"""pytest-xdist: which process is a worker, what workers and controller tell one another, and how they are connected."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin.integrations.integration import Integration

_SESSION = "isolate_session"  # key in a worker's ``workerinput``: the name of the session
_ERRORS = "isolate_usage_errors"  # key in a worker's ``workeroutput``: lines
_WARNINGS = "isolate_warnings"  # the same
_IMPORTS = "isolate_imports"  # in ``workeroutput``: as of imports.py
_WARNED: pytest.StashKey[bool] = pytest.StashKey()  # in the controller's ``config.stash``


def is_controller(config: pytest.Config) -> bool:
    """Whether this process has the workers run the tests, and runs none."""
    return config.pluginmanager.hasplugin("dsession")


def is_worker(config: pytest.Config) -> bool:
    """Whether a controller has started this process."""
    return hasattr(config, "workerinput")


def worker_name(config: pytest.Config) -> str | None:
    """``gw0`` and so on; None without xdist."""
    return _input(config).get("workerid")


def worker_count(config: pytest.Config) -> int:
    """How many processes share the tests."""
    return int(_input(config).get("workercount", 1))


def give_session_name(node: Any, name: str) -> None:
    """In the controller, before it starts the worker of ``node``."""
    node.workerinput[_SESSION] = name


def session_name(config: pytest.Config) -> str | None:
    """In a worker: what the controller gave it; None without xdist, or from a controller without our plugin."""
    name: str | None = _input(config).get(_SESSION)
    return name


def leave_errors(config: pytest.Config, lines: list[str]) -> bool:
    """In a worker: leave what is wrong to the controller, which raises it; whether this is a worker."""
    if (output := getattr(config, "workeroutput", None)) is None:
        return False
    output[_ERRORS] = lines
    return True


def leave_imports(config: pytest.Config, imported: Mapping[str, tuple[int, int]]) -> None:
    """In a worker: leave to the controller what :mod:`.imports` has counted."""
    if (output := getattr(config, "workeroutput", None)) is not None:
        output[_IMPORTS] = dict(imported)


def take_imports(node: Any) -> Mapping[str, tuple[int, int]]:
    """In the controller: what the worker of ``node`` has left."""
    found: Mapping[str, tuple[int, int]] = getattr(node, "workeroutput", {}).get(_IMPORTS, {})
    return found


def raise_errors(node: Any) -> None:
    """In the controller, when a worker has ended: raise what it left.

    :raises pytest.UsageError: at the first worker; the others found the same at the end of collection.
    """
    # A worker that crashed has no output.
    if lines := getattr(node, "workeroutput", {}).get(_ERRORS):
        raise pytest.UsageError(*lines)


def leave_warnings(config: pytest.Config, lines: list[str]) -> bool:
    """In a worker: leave to the controller what is to be warned of once; whether this is a worker."""
    if (output := getattr(config, "workeroutput", None)) is None:
        return False
    output[_WARNINGS] = lines
    return True


def take_warnings(node: Any) -> list[str]:
    """In the controller, when a worker has ended: what it left. Only the first one's, as all find the same."""
    lines: list[str] = getattr(node, "workeroutput", {}).get(_WARNINGS, [])
    if not lines or node.config.stash.get(_WARNED, False):
        return []
    node.config.stash[_WARNED] = True
    return lines


class Xdist(Integration):
    """No child may hold what keeps a worker connected to its controller."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._descriptors: list[int] | None = None

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], None] | None:
        """Close that connection in the child."""
        if self._descriptors is None:
            self._descriptors = _channel(self.config)
        return functools.partial(_give_up, self._descriptors) if self._descriptors else None


def _input(config: pytest.Config) -> dict[str, Any]:
    return getattr(config, "workerinput", {})


def _channel(config: pytest.Config) -> list[int]:
    """Descriptors of a worker's channel to the controller, be it a local one or at the other end of a socket.

    Seen with execnet 2.1.
    """
    if not is_worker(config):
        return []
    plugins = config.pluginmanager.get_plugins()
    ios = [getattr(getattr(getattr(plugin, "channel", None), "gateway", None), "_io", None) for plugin in plugins]
    files = [getattr(io, name, None) for io in ios for name in ("infile", "outfile", "sock")]
    return [file.fileno() for file in files if file is not None]


def _give_up(descriptors: list[int]) -> None:
    """What a test writes there would break the channel. They stay taken, as execnet's objects live on."""
    null = calls.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        calls.dup2(null, descriptor, inheritable=False)
    calls.close(null)
