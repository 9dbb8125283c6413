"""Folders that a plain run leaves on disk for later runs, or for people: they outlive the sandbox too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_isolate.spec.spec import Spec

_FACTORIES = {"tmp_path_factory", "tmpdir_factory"}
_TEMPORARY = {"tmp_path", "tmpdir", "tmp_path_factory", "tmpdir_factory"}


def base_of_tmp_path(item: pytest.Item) -> str | None:
    """The directory that holds the session's ``tmp_path`` directories; None if ``item`` uses none.

    pytest makes it out here, once: inside, each test would make its own. The keeper takes out of the sandbox what a
    test leaves in it. So pytest's own rules of what to keep apply: the child has followed those that concern one test,
    and the end of the session follows the rest. Private: ``Config._tmp_path_factory``; no public way in 8.0 to 9.2.
    """
    factory: Any = getattr(item.config, "_tmp_path_factory", None)
    if factory is None or not _TEMPORARY.intersection(getattr(item, "fixturenames", ())):
        return None
    try:
        return str(factory.getbasetemp())
    except OSError:  # which the fixture will raise inside as well, with pytest's own words
        return None


def makes_folders(item: pytest.Item) -> bool:
    """Whether ``item`` may make folders there by names of its own: nobody knows which names are free for it.

    Private: ``Item._fixtureinfo``, the same in 8.0 to 9.2.
    """
    info: Any = getattr(item, "_fixtureinfo", None)
    if info is None or not _FACTORIES.intersection(info.names_closure):
        return False
    definitions = (found[-1] for name, found in info.name2fixturedefs.items() if found and name not in _TEMPORARY)
    inside = [definition.argnames for definition in definitions if definition.scope == "function"]
    return any(_FACTORIES.intersection(names) for names in (*inside, info.argnames))


def with_folders(spec: Spec, folders: Iterable[str]) -> Spec:
    """``spec``, with ``folders`` bound through, in which plugins keep what is for later runs, or for people."""
    for folder in folders:
        if folder not in spec.writable:
            spec = replace(spec, writable=(*spec.writable, folder))
    return spec
