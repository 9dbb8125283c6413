"""What the command line and the ini file say, for all tests."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_isolate.spec.keys import KEEP_NUMBER, KEEP_SIZE

if TYPE_CHECKING:
    from pytest_isolate.plugin.config.baseline_options import BaselineOptions
    from pytest_isolate.spec.key_values import KeyValues

Unsupported = Literal["error", "skip", "degrade"]

#: Seconds that a test may wait for locks which nobody can release.
STALL_TIMEOUT = 60.0


class Settings:
    """What the command line and the ini file say, checked."""

    def __init__(
        self,
        *,
        images: str,
        everything: bool = False,
        off: bool = False,
        unsupported: Unsupported = "error",
        usage_rows: int | None = None,
        reports: tuple[str, ...] = (),
        baseline: BaselineOptions | None = None,
        github: bool = False,
        keep: str | None = None,
        keep_number: int = KEEP_NUMBER,
        keep_size: int = KEEP_SIZE,
        cgroup: str | None = None,
        stall_timeout: float = STALL_TIMEOUT,
        jobs: int | None = None,
        jobs_asked: bool = False,
        immortal_heap: bool = True,
        fixtures_inside: tuple[str, ...] = (),
        makereport_outside: tuple[str, ...] = (),
        defaults: tuple[KeyValues, ...] = (),
        asked: tuple[str, ...] = (),
        asked_in_ini: tuple[str, ...] = (),
    ) -> None:
        self.images = images  #: folder that has the images
        self.everything = everything  #: ``--isolate-all``: also tests without the marker
        self.off = off  #: ``--isolate-off``: none, and the header says so
        self.unsupported = unsupported
        self.usage_rows = usage_rows  #: rows of the usage table; None: nobody has said, so none with -q
        self.reports = reports  #: absolute paths of files to write, .html or .json
        self.baseline = baseline  #: what figures of tests are compared with
        self.github = github  #: tell GitHub Actions of isolated tests
        self.keep = keep  #: whose writable layers are kept: failed, all; None: nobody's
        self.keep_number = keep_number  #: of layers at most
        self.keep_size = keep_size  #: bytes of all of them at most
        self.cgroup = cgroup  #: delegated cgroup, as a path from the cgroup root
        self.stall_timeout = stall_timeout  #: seconds; see :class:`~pytest_isolate.sandbox.stalled.StallPatience`
        self.jobs = jobs  #: sandboxes that run at a time in this process; None: as many as there are cores
        self.jobs_asked = jobs_asked  #: the user has said how many
        self.immortal_heap = immortal_heap  #: functions, classes and constants of pytest's process may become immortal
        self.fixtures_inside = fixtures_inside  #: higher-scoped ones that each sandbox sets up for itself
        self.makereport_outside = makereport_outside  #: plugins whose makereport hook is called outside, too
        self.defaults = defaults  #: for every test, the stronger first
        self.asked = asked  #: what the command line asks for isolated tests, as written: ``--isolate-memory=50M``
        self.asked_in_ini = asked_in_ini  #: the same of the ini file: ``isolate_memory = 50M``

    def asked_words(self) -> str:
        """What :attr:`asked` and :attr:`asked_in_ini` have, for a sentence; empty if nobody asks for anything."""
        return ", ".join([*self.asked, *self.asked_in_ini])


def is_in_github_actions() -> bool:
    """As GitHub's documentation has it ("Default environment variables")."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def in_ini_file(config: pytest.Config) -> list[str] | None:
    """Names of all values in the ini file; None once pytest, which deprecates ``inicfg``, has no way to list them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pytest.PytestDeprecationWarning)
        found = getattr(config, "inicfg", None)
    return None if found is None else [*found]


def anything_set(config: pytest.Config) -> bool:
    """Whether there may be anything for :mod:`~pytest_isolate.plugin.config.config_reader`, pytest-timeout's too."""
    if config.option.override_ini or "PYTEST_TIMEOUT" in os.environ:
        return True
    if any(value not in (None, False) for name, value in vars(config.option).items() if _concerns_us(name)):
        return True
    written = in_ini_file(config)
    return written is None or any(_concerns_us(name) for name in written)


def _concerns_us(name: str) -> bool:
    return name == "timeout" or name.startswith("isolate_")
