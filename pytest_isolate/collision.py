"""The guard against PyPI's unrelated ``pytest-isolate``, which owns the same import package, marker and entry point."""

from __future__ import annotations

from importlib import metadata

import pytest

OTHER = "pytest-isolate"


def check_owner() -> None:
    """Refuse to run beside PyPI's ``pytest-isolate``.

    Both distributions install into the folder ``pytest_isolate``: whichever came last has overwritten files of the
    other, and pip neither prevents nor notices it. Asks for that one distribution by name, which reads no metadata of
    others (0.1 ms; ``packages_distributions()`` reads every file list there is, 85 ms in an environment of 55).

    :raises pytest.UsageError: with the commands that mend it.
    """
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
