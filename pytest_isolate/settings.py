"""What the command line and the ini file say, for all tests."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from pytest_isolate.layers import Layer

Unsupported = Literal["error", "skip", "degrade"]


class Settings:
    """What the command line and the ini file say, checked."""

    def __init__(
        self,
        *,
        images: str,
        everything: bool = False,
        off: bool = False,
        unsupported: Unsupported = "error",
        usage_rows: int = 10,
        cgroup: str | None = None,
        fixtures_inside: tuple[str, ...] = (),
        makereport_outside: tuple[str, ...] = (),
        defaults: tuple[Layer, ...] = (),
    ) -> None:
        self.images = images  #: folder that has the images
        self.everything = everything  #: ``--isolate-all``: also tests without the marker
        self.off = off  #: ``--isolate-off``: none, and the header says so
        self.unsupported = unsupported
        self.usage_rows = usage_rows  #: rows of the usage table
        self.cgroup = cgroup  #: delegated cgroup, as a path from the cgroup root
        self.fixtures_inside = fixtures_inside  #: wider-scoped ones that each sandbox sets up for itself
        self.makereport_outside = makereport_outside  #: plugins whose makereport hook is called outside, too
        self.defaults = defaults  #: for every test, the stronger first


def honours_pytest_timeout(config: pytest.Config) -> bool:
    """Whether pytest-timeout is loaded: without it (``-p no:timeout``) its marker and options mean nothing."""
    names = ("timeout", "pytest_timeout")  # by entry point; by -p or pytest_plugins
    return any(config.pluginmanager.hasplugin(name) for name in names)


def in_ini_file(config: pytest.Config) -> list[str] | None:
    """Names of all values in the ini file; None once pytest, which deprecates ``inicfg``, has no way to list them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pytest.PytestDeprecationWarning)
        found = getattr(config, "inicfg", None)
    return None if found is None else [*found]


def anything_said(config: pytest.Config) -> bool:
    """Whether there may be anything to read (:mod:`pytest_isolate.reading`), also of pytest-timeout's."""
    if config.option.override_ini or "PYTEST_TIMEOUT" in os.environ:
        return True
    if any(value not in (None, False) for name, value in vars(config.option).items() if _concerns_us(name)):
        return True
    written = in_ini_file(config)
    return written is None or any(_concerns_us(name) for name in written)


def _concerns_us(name: str) -> bool:
    return name == "timeout" or name.startswith("isolate_")
