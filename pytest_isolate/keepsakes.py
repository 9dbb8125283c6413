"""What a plain run leaves on disk and later runs, or people, look for: it outlives the sandbox too."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_isolate.spec import Spec

_TEMPORARY = {"tmp_path", "tmpdir", "tmp_path_factory", "tmpdir_factory"}


def base_of_tmp_path(item: pytest.Item) -> str | None:
    """The directory that holds the session's ``tmp_path`` directories; None if ``item`` uses none.

    Made out here, once: inside, each test would make its own. What a test leaves in it is taken out of the sandbox, by
    which pytest's own rules of what to keep apply: those that the test itself follows have been followed by then, and
    the end of the session does the rest. Private: ``Config._tmp_path_factory``; no public way in 8.0 to 9.2.
    """
    factory: Any = getattr(item.config, "_tmp_path_factory", None)
    if factory is None or not _TEMPORARY.intersection(getattr(item, "fixturenames", ())):
        return None
    return str(factory.getbasetemp())


def with_folders(item: pytest.Item, spec: Spec) -> Spec:
    """``spec``, with those folders bound through in which plugins keep what is for later runs, or for people."""
    for folder in (_allure_results(item), _examples(item)):
        if folder is not None and folder not in spec.writable:
            spec = replace(spec, writable=(*spec.writable, folder))
    return spec


def _allure_results(item: pytest.Item) -> str | None:
    """The folder of allure-pytest's results, which it has made."""
    if not item.config.pluginmanager.hasplugin("allure_listener"):
        return None
    return os.path.abspath(str(item.config.option.allure_report_dir))


def _examples(item: pytest.Item) -> str | None:
    """Hypothesis' folder if the test is one of hypothesis': it keeps failing examples."""
    if item.get_closest_marker("hypothesis") is None:  # which its plugin adds
        return None
    settings: Any = getattr(sys.modules.get("hypothesis"), "settings", None)
    database = getattr(getattr(settings, "default", None), "database", None)
    path = getattr(
        database, "path", None
    )  # None: kept in memory, or nowhere, or in a kind of database that we don't know
    if path is None:
        return None
    examples = os.path.abspath(str(path))
    with suppress(OSError):  # a folder that cannot be written would keep nothing in a plain run either
        _make(examples)
        home, name = os.path.split(examples)
        return home if name == "examples" else examples  # .hypothesis, with tables that take long to make
    return None


def _make(examples: str) -> None:
    """By hypothesis itself where it can: it tells git to ignore its folder."""
    configuration: Any = sys.modules.get("hypothesis.configuration")
    storage: Any = configuration.storage_directory("examples") if configuration is not None else None
    if hasattr(storage, "create_if_missing") and os.fspath(storage.path) == examples:
        storage.create_if_missing()
    os.makedirs(examples, exist_ok=True)
