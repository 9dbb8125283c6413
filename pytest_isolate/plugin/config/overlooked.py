"""What was asked for and no test gets: values for isolated tests where there are none, markers that mean nothing.

Told by a warning, as it may be on purpose. Under ``-W error`` it is a usage error.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from types import ModuleType

import pytest

from pytest_isolate.plugin.config.item_specs import OURS, SPEC
from pytest_isolate.plugin.config.options import SETTINGS

#: How alike a name must be to one of ours, as difflib counts: "isolation" and "isolate_all" are, "sandbox" is not.
_ALIKE = 0.75


def tell(config: pytest.Config, items: list[pytest.Item], foreign: set[str]) -> None:
    """Warn of all that is overlooked. An xdist worker leaves it to its controller, so that it is told once.

    :param foreign: names of the items' markers that are not ours.
    :raises pytest.UsageError: the user has made errors of such warnings.
    """
    lines = [*_misspelt(config, items, foreign), *_of_conftest_files(config), *_asked_in_vain(config, items)]
    if not lines:
        return
    from pytest_isolate.plugin.integrations import xdist  # noqa: PLC0415 - not before there is something to tell

    if not xdist.leave_warnings(config, lines):
        warn(config, lines)


def warn(config: pytest.Config, lines: Iterable[str]) -> None:
    """Issue each line as a warning. :raises pytest.UsageError: the user has made errors of such warnings."""
    for line in lines:
        try:
            config.issue_config_time_warning(pytest.PytestConfigWarning(line), stacklevel=2)
        except pytest.PytestConfigWarning as error:
            raise pytest.UsageError(line) from error


def is_asked_in_vain(config: pytest.Config, items: list[pytest.Item]) -> bool:
    """Whether something is asked for isolated tests, and no test of the run is one."""
    settings = config.stash[SETTINGS]
    if not (settings.asked or settings.asked_in_ini) or settings.everything or settings.off:
        return False
    return not config.option.collectonly and bool(items) and not any(item.stash.get(SPEC, None) for item in items)


def _asked_in_vain(config: pytest.Config, items: list[pytest.Item]) -> Iterator[str]:
    if not is_asked_in_vain(config, items):
        return
    settings = config.stash[SETTINGS]
    line = (
        f"not in force: {settings.asked_words()}, as no test of this run is isolated. "
        "Isolate all with --isolate-all (in the ini file isolate_all = true), or single ones with @pytest.mark.isolate."
    )
    # What the ini file says may be meant for tests that are not in this run: the header tells it, and that must do.
    if settings.asked or not _is_error(line):
        yield line


def _is_error(line: str) -> bool:
    with warnings.catch_warnings(record=True):  # with the filters of the run, which are in force during collection
        try:
            warnings.warn(pytest.PytestConfigWarning(line), stacklevel=1)
        except pytest.PytestConfigWarning:
            return True
    return False


def _misspelt(config: pytest.Config, items: Iterable[pytest.Item], foreign: set[str]) -> Iterator[str]:
    """Lines about markers that nobody has registered and that look like one of ours."""
    if not foreign:
        return
    registered = {str(line).partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
    meant = {name: near for name in foreign - registered if (near := _nearest(name))}
    if not meant:
        return
    from pytest_isolate.plugin.config import marker_reader  # noqa: PLC0415 - only then

    seen: set[int] = set()
    for item in items:
        for node, mark in item.iter_markers_with_node():
            if mark.name in meant and id(mark) not in seen:
                seen.add(id(mark))
                place = marker_reader.place(node, mark, config.rootpath)
                yield (
                    f"{place}: there is no such marker, so it isolates nothing. Did you mean {meant[mark.name]}? "
                    "(A marker of your own is to be registered: markers in the ini file.)"
                )


def _nearest(name: str) -> str | None:
    import difflib  # noqa: PLC0415 - over a millisecond, and few runs have a marker that nobody has registered

    return next(iter(difflib.get_close_matches(name.lower(), OURS, n=1, cutoff=_ALIKE)), None)


def _of_conftest_files(config: pytest.Config) -> Iterator[str]:
    """Lines about ``pytestmark`` in a conftest.py file, which pytest does not look at."""
    for plugin in config.pluginmanager.get_plugins():
        if not isinstance(plugin, ModuleType) or "pytestmark" not in vars(plugin):
            continue
        path = str(plugin.__file__)
        marks = plugin.pytestmark if isinstance(plugin.pytestmark, list) else [plugin.pytestmark]
        names = [name for each in marks if (name := getattr(each, "name", "")) in OURS]  # of a Mark or MarkDecorator
        if names and os.path.basename(path) == "conftest.py":
            yield (
                f"{os.path.relpath(path, config.rootpath)}: pytestmark = pytest.mark.{names[0]}: pytest takes no marks "
                "from a conftest.py file, so it has no effect. Write it in the test files, or add it to items in "
                "pytest_collection_modifyitems."
            )
