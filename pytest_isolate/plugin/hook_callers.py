"""Which plugins' hooks run in the sandbox, and which outside.

Other plugins' hooks round a test run once, inside. Out here only pytest's own run, for their skip marks, captured
output and logs: another plugin's would work on what only the inside has set, and count things twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pluggy
import pytest

_OURS = "pytest_isolate"
#: Packages whose wrapper of the protocol has no part in how a test runs: pytest-timeout's sets a timer, for which the
#: sandbox's own stands; that of VS Code notes where a test is.
_IDLE_WRAPPERS = {"pytest_timeout", "vscode_pytest"}
#: By name of a hook, and whether of watching plugins only.
_CALLERS: pytest.StashKey[dict[tuple[str, bool], Callable[..., object]]] = pytest.StashKey()


def own_hook(config: pytest.Config, name: str, *, watching: bool = False) -> Callable[..., object]:
    """The hook's caller, of pytest's own plugins only, or of those alone that watch this process."""
    callers = config.stash.setdefault(_CALLERS, {})
    if (name, watching) not in callers:
        manager = config.pluginmanager
        contexts = manager.get_plugin("_cov_contexts")  # pytest-cov's: names the test that what follows is covered by
        wanted = _watches if watching else _is_pytests
        others = [plugin for plugin in manager.get_plugins() if not wanted(plugin) and plugin is not contexts]
        callers[name, watching] = manager.subset_hook_caller(name, others)
    return callers[name, watching]


def forget_callers(config: pytest.Config) -> None:
    """Make them anew, as another plugin is there, which :func:`own_hook` may have to leave out."""
    config.stash.setdefault(_CALLERS, {}).clear()


def other_protocols(item: pytest.Item) -> Iterator[Callable[[], object]]:
    """What other plugins have in place of pytest's protocol of an item, such as reruns of failures; in pluggy's order.

    Each is to be called for ``item`` with no next item. Wrappers of the protocol are left out: they are round ours
    already, outside.
    """
    arguments = {"item": item, "nextitem": None}
    for hook in reversed(item.ihook.pytest_runtest_protocol.get_hookimpls()):
        if not (hook.hookwrapper or hook.wrapper) and _package(hook.plugin) not in {"_pytest", _OURS}:
            yield functools.partial(hook.function, *(arguments[name] for name in hook.argnames))


def own_wrappers(item: pytest.Item) -> list[Callable[..., Any]]:
    """What pytest itself wraps round the protocol of an item: generators of the item, the outermost first."""
    hooks = reversed(item.ihook.pytest_runtest_protocol.get_hookimpls())
    return [hook.function for hook in hooks if hook.wrapper and _package(hook.plugin) == "_pytest"]


def foreign_wrappers(config: pytest.Config) -> list[str]:
    """Names of other plugins, also of conftest files, that wrap the protocol of items."""
    hooks = config.hook.pytest_runtest_protocol.get_hookimpls()
    found = [hook for hook in hooks if hook.hookwrapper or hook.wrapper]
    return [_name(hook) for hook in found if _package(hook.plugin) not in {"_pytest", _OURS, *_IDLE_WRAPPERS}]


def _name(hook: Any) -> str:
    """Of the plugin that has it. One that was registered without a name has a number for one."""
    name = str(hook.plugin_name)
    return _module(hook.plugin) if name.isdigit() else name


def find_plugins(config: pytest.Config, names: Iterable[str]) -> dict[str, set[object]]:
    """The plugins of each name: pytest's name of it, or its module's; ``conftest`` is every conftest file."""
    found: dict[str, set[object]] = {name: set() for name in names}
    for name, plugin in config.pluginmanager.list_name_plugin():
        if plugin is not None:
            for each in found.keys() & {name, _module(plugin), _module(plugin).rpartition(".")[2]}:
                found[each].add(plugin)
    return found


def call_makereport(item: pytest.Item, plugins: set[object], call: object, report: pytest.TestReport) -> None:
    """Call ``pytest_runtest_makereport`` of ``plugins`` alone, as if ``report`` were its result."""
    arguments = {"item": item, "call": call}
    for hook in item.ihook.pytest_runtest_makereport.get_hookimpls():
        if hook.plugin in plugins:
            returned: Any = hook.function(*(arguments[name] for name in hook.argnames))
            if hook.hookwrapper or hook.wrapper:
                next(returned)
                with suppress(StopIteration):
                    returned.send(pluggy.Result.from_call(lambda: report) if hook.hookwrapper else report)


def _module(plugin: object) -> str:
    return str(getattr(plugin, "__name__", None) or type(plugin).__module__)


def _package(plugin: object) -> str:
    return _module(plugin).partition(".")[0]


def _is_pytests(plugin: object) -> bool:
    return _package(plugin) == "_pytest"


def _watches(plugin: object) -> bool:
    """Whether it warns in each phase of exceptions that nobody could catch: in ``__del__``, and in threads."""
    return _module(plugin) in {"_pytest.unraisableexception", "_pytest.threadexception"}
