"""multiprocessing: processes that it has started for itself in pytest's process, and that no sandbox can use.

The fork server is no child of the test, and what it forks would be outside of the sandbox; the child forgets it, and
starts its own when it needs one. The resource tracker would remove by name, outside, what the test has made inside. The
child tells nobody of its resources, as they go with the sandbox: a tracker of its own would cost each test a process,
and in an image there may be no libraries to start Python with.
A manager cannot be started anew, as it has the session's objects; the folder of its socket is bound through, and the
child makes connections of its own: of those that it inherits, one that a test leaves in the middle of a call would
give the next test the answer.

All of it is private: looked at in 3.10 to 3.14, and in packages that have it from there (joblib, loky, multiprocess).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin.integrations.integration import Integration

_PACKAGES = ("multiprocessing", "multiprocess")
_LOKY = ("loky.backend", "joblib.externals.loky.backend")
#: Attributes of what a module starts: the first is None without it; all are what is known of the process.
_STARTED = {
    "forkserver": (
        "_forkserver",
        ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid", "_forkserver_authkey", "_lock"),
    ),
    "resource_tracker": ("_resource_tracker", ("_fd", "_pid", "_exitcode", "_lock", "_reentrant_messages")),
}
#: loky's executor for all, whose thread is in no sandbox: it is made again by who asks for it.
_EXECUTORS = ("loky.reusable_executor", "joblib.externals.loky.reusable_executor")
_FOLDER = "pymp-"  # begins the name of the folder that a process has for its sockets


class MultiprocessingHelpers(Integration):
    """Costs a few look-ups in ``sys.modules`` where multiprocessing is not used."""

    def __init__(self, config: pytest.Config) -> None:
        """No descriptor is opened before it is needed."""
        super().__init__(config)
        self._sinks: dict[str, int] = {}  # by package

    def folders(self, item: pytest.Item) -> list[str]:
        """Those of the managers' sockets."""
        found = dict.fromkeys(_folder(address) for address in _addresses(sys.modules))
        return [folder for folder in found if folder is not None and files.is_directory(folder)]

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        modules = sys.modules
        if "multiprocessing.process" not in modules and "multiprocess.process" not in modules:
            return None
        changes = [*self._forget_processes(modules), *_forget_executors(modules), *_forget_folder(modules)]
        connections = [*_connections(modules)]
        return partial(_forget, changes, connections) if changes or connections else None

    def _nowhere(self, package: str) -> int:
        """What a tracker is told by that nobody reads; it counts as alive (``ResourceTracker._check_alive``).

        One each: loky keeps those of two trackers open for a process, and refuses to keep one twice.
        """
        if package not in self._sinks:
            self._sinks[package] = calls.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        return self._sinks[package]

    def _forget_processes(self, modules: dict[str, Any]) -> Iterator[_Change]:
        for package, (module, (name, attributes)) in product((*_PACKAGES, *_LOKY), _STARTED.items()):
            helper: Any = getattr(modules.get(f"{package}.{module}"), name, None)
            known = {} if helper is None else vars(helper)
            if known.get(attributes[0]) is not None:
                fresh = vars(type(helper)())
                new = {attribute: fresh[attribute] for attribute in attributes if attribute in fresh}
                if "_fd" in new:
                    new["_fd"] = self._nowhere(package)
                yield _Change(known, new, {attribute: known.get(attribute) for attribute in new})


def helper_descriptors() -> set[int]:
    """By which this process talks to those that multiprocessing has started for itself; tests do not use them."""
    found = set()
    for package, (module, (name, attributes)) in product((*_PACKAGES, *_LOKY), _STARTED.items()):
        helper: Any = getattr(sys.modules.get(f"{package}.{module}"), name, None)
        found |= {vars(helper).get(attribute) for attribute in attributes if helper is not None and "fd" in attribute}
    return found - {None}


class _Change(NamedTuple):
    """What the child is to do to the attributes of one object."""

    known: dict[str, Any]
    new: dict[str, Any]
    old: object  #: a reference: the end of what is replaced would act on the original


def _forget(changes: list[_Change], connections: list[Any]) -> None:
    """In the child."""
    for known, new, _ in changes:
        known.update(new)
    for local in connections:
        vars(local).clear()  # their descriptors are closed


def _forget_executors(modules: dict[str, Any]) -> Iterator[_Change]:
    for module in _EXECUTORS:
        if module in modules and (executor := getattr(modules[module], "_executor", None)) is not None:
            yield _Change(vars(modules[module]), {"_executor": None}, executor)


def _forget_folder(modules: dict[str, Any]) -> Iterator[_Change]:
    """The folder for sockets: an image does not have it, and a manager's, which is bound through, is the session's."""
    for package in _PACKAGES:
        process = modules.get(f"{package}.process")
        config = getattr(getattr(process, "_current_process", None), "_config", {})
        if config.get("tempdir") is not None:
            yield _Change(config, {"tempdir": None}, config["tempdir"])


def _connections(modules: dict[str, Any]) -> Iterator[Any]:
    """The objects that have this thread's connections to managers, if the child can make others."""
    for package in _PACKAGES:
        for address, (local, *_) in _asked(modules, package).items():
            if isinstance(address, tuple) or _folder(address):
                yield local


def _addresses(modules: dict[str, Any]) -> Iterator[object]:
    """Those of the managers that this process has started, or asks."""
    for package in _PACKAGES:
        if f"{package}.managers" in modules:
            yield from _asked(modules, package)
            for finalizer in [*getattr(modules[f"{package}.util"], "_finalizer_registry", {}).values()]:
                if getattr(getattr(finalizer, "_callback", None), "__name__", "") == "_finalize_manager":
                    yield finalizer._args[1]


def _asked(modules: dict[str, Any], package: str) -> dict[object, tuple[Any, ...]]:
    """By the address of each manager that is asked: the object that has this thread's connection, and more."""
    proxy = getattr(modules.get(f"{package}.managers"), "BaseProxy", None)
    known: dict[object, tuple[Any, ...]] = getattr(proxy, "_address_to_local", {})
    return known


def _folder(address: object) -> str | None:
    """The folder of a socket's file, if it has nothing else."""
    folder = os.path.dirname(address) if isinstance(address, str) else ""
    return folder if os.path.basename(folder).startswith(_FOLDER) else None
