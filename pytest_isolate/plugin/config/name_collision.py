"""The guard against PyPI's unrelated ``pytest-isolate``, which owns the same import package, marker and entry point."""

from __future__ import annotations

import sys

import pytest

from pytest_isolate.linux.calls import calls

OTHER = "pytest-isolate"
#: What the folder of its metadata is called: a wheel's or setuptools', by their rules for names.
_PREFIXES = ("pytest_isolate-", "pytest-isolate-")
_FOLDERS = (".dist-info", ".egg-info")


def check_owner() -> None:
    """Refuse to run beside PyPI's ``pytest-isolate``.

    Both distributions install into the folder ``pytest_isolate``: whichever came last has overwritten files of the
    other, and pip neither prevents nor notices it. Looks at names of folders, 0.2 ms at each start of pytest;
    ``importlib.metadata`` takes three times as long, and 85 ms for ``packages_distributions()``.

    :raises pytest.UsageError: with the commands that mend it.
    """
    if not any(_is_others(name) for folder in sys.path for name in _names(folder)):
        return
    from importlib import metadata  # noqa: PLC0415 - only then

    try:
        other = metadata.distribution(OTHER)
    except metadata.PackageNotFoundError:
        return
    raise pytest.UsageError(
        f"{OTHER} {other.version} and pytest-isolate-ns are both installed, and both own the import package "
        "pytest_isolate, so that files of one have overwritten files of the other. Keep one of them. To keep this one: "
        f"pip uninstall {OTHER}; pip install --force-reinstall pytest-isolate-ns. "
        f"To keep the other: pip uninstall pytest-isolate-ns; pip install --force-reinstall {OTHER}."
    )


def _names(folder: str) -> list[str]:
    try:
        return calls.listdir(folder or ".")
    except OSError:  # a zip file, or not there
        return []


def _is_others(name: str) -> bool:
    return name.startswith(_PREFIXES) and name.endswith(_FOLDERS)
