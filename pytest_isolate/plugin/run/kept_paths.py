"""What pytest and its plugins are told to write, and so stays when a session sandbox goes."""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.config import options
from pytest_isolate.plugin.config.session_options import ENTERED

if TYPE_CHECKING:
    from pytest_isolate.spec.spec import Spec

_SHM = Path("/dev/shm")  # noqa: S108 - no file of ours is made there
#: Options whose value is a file or folder that is written: of pytest, and of plugins, if they are there.
_OPTIONS = (
    "debug", "xmlpath", "log_file", "basetemp", "htmlpath", "report_log", "json_report_file", "allure_report_dir",
    "csv_path", "md_report_output", "benchmark_storage", "benchmark_json", "memray_bin_path", "cucumber_json_path",
    "ctrf", "durations_path", "pstats_dir",
)  # fmt: skip
#: The same, where the names of what is written begin so, and go on with a hyphen: a file for each test.
_PREFIXES = ("benchmark_cprofile_dump", "benchmark_histogram")
#: Of coverage's own configuration.
_OF_COVERAGE = ("html_dir", "xml_output", "json_output", "lcov_output")


def leave(config: pytest.Config) -> None:
    """Write it down for the process outside, once all plugins are configured, and close the way there.

    :raises pytest.UsageError: something could not stay.
    """
    entered = config.stash[ENTERED]
    paths = [*_trees(config)]
    refuse_lost(paths, entered.writable)
    told = {
        "trees": [os.path.realpath(path) for path in paths],
        "prefixes": [
            *(f"{os.path.realpath(data)}." for data in _coverage_data()),  # one file for each process
            *(f"{os.path.realpath(path)}-" for path in _values(config, config.option, _PREFIXES)),
        ],
        "project": [os.path.realpath(config.rootpath)],
        "folders": [*_folders(config)],
        "temporary": [os.path.join(os.path.realpath(tempfile.gettempdir()), f"pytest-of-{_user()}")],
    }
    os.write(entered.kept, json.dumps(told).encode())
    os.close(entered.kept)


def refuse_lost(paths: Iterable[str], writable: Iterable[str]) -> None:
    """See that none of ``paths`` is in /dev/shm, of which a session sandbox has one of its own, that goes with it.

    But for Python's bytecode, which is made anew.

    :param writable: what is bound through.
    :raises pytest.UsageError: one is, and /dev/shm is not bound through as a whole.
    """
    if any(_SHM.is_relative_to(tree) for tree in writable):
        return
    places = (Path(os.path.realpath(path)) for path in (*paths, *writable) if path != sys.pycache_prefix)
    if lost := next((place for place in places if place.is_relative_to(_SHM)), None):
        raise pytest.UsageError(
            f"--isolate-session: {lost} would be lost: the sandbox has a {_SHM} of its own, which goes with it. Choose "
            f"another place, or share the machine's by --isolate-session-writable={_SHM}."
        )


def reached(spec: Spec, paths: Iterable[str]) -> Spec:
    """``spec`` with the named pipes among ``paths`` bound through: under another inode each would be another pipe."""
    return replace(spec, writable=(*spec.writable, *(os.path.realpath(path) for path in paths if is_pipe(path))))


def is_pipe(path: str) -> bool:
    """Whether it is a named pipe. One without a name, as /dev/stdout may be, is inherited, and none."""
    try:
        return stat.S_ISFIFO(os.stat(os.path.realpath(path)).st_mode)
    except OSError:
        return False


def named(config: pytest.Config, given: argparse.Namespace) -> Iterator[str]:
    """Those that are known before the first conftest.py file is.

    :param given: the command line, as far as it is known.
    """
    started = str(config.invocation_params.dir)
    yield from _values(config, given, _OPTIONS)
    yield from _beside_options(config, given)
    ours = (*(given.isolate_report or ()), *filter(None, [given.isolate_baseline]))
    yield from (os.path.join(started, os.path.expanduser(path)) for path in ours)
    reports = getattr(given, "cov_report", None)  # of pytest-cov
    if isinstance(reports, dict):
        yield from (os.path.join(started, path) for path in reports.values() if path)
    if config.pluginmanager.hasplugin("cacheprovider"):
        folder = os.path.expanduser(os.path.expandvars(str(config.getini("cache_dir"))))
        yield os.path.join(config.rootpath, folder)
    if config.pluginmanager.hasplugin("logging") and (log := config.getini("log_file")):
        yield os.path.join(started, str(log))
    if sys.pycache_prefix:
        yield sys.pycache_prefix
    yield os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY") or os.path.join(started, ".hypothesis")


def _values(config: pytest.Config, given: argparse.Namespace, names: Iterable[str]) -> Iterator[str]:
    """The paths that these options have as values, if they are given."""
    for name in names:
        values = getattr(given, name, None) or ()
        for value in values if isinstance(values, list) else (values,):
            path = getattr(value, "name", "") if isinstance(value, io.IOBase) else str(value).removeprefix("file://")
            yield os.path.join(config.invocation_params.dir, os.path.expanduser(os.path.expandvars(path)))


def _beside_options(config: pytest.Config, given: argparse.Namespace) -> Iterator[str]:
    """Where plugins write what no option names."""
    if not getattr(given, "self_contained_html", False):  # of pytest-html, with its style sheet
        yield from (os.path.join(os.path.dirname(page), "assets") for page in _values(config, given, ["htmlpath"]))
    if getattr(given, "profile", False) or getattr(given, "profile_svg", False):  # of pytest-profiling
        yield os.path.join(config.invocation_params.dir, "prof")
    if hasattr(given, "tracing") and hasattr(given, "screenshot"):  # of pytest-playwright
        yield from _values(config, given, ["output"])
    if hasattr(given, "testmon"):
        yield os.path.join(config.rootpath, os.environ.get("TESTMON_DATAFILE") or ".testmondata")


def _folders(config: pytest.Config) -> Iterator[str]:
    """Names of the folders, anywhere in the project, whose files the run is told to update."""
    told = config.option
    if getattr(told, "update_snapshots", False) or getattr(told, "update_new_snapshots_only", False):  # of syrupy
        yield str(getattr(told, "snapshot_dirname", "__snapshots__"))
    if getattr(told, "snapshot_update", False):  # of pytest-snapshot
        yield "snapshots"
    if getattr(told, "record_mode", None) not in (None, "none"):  # of pytest-recording
        yield "cassettes"


def _trees(config: pytest.Config) -> Iterator[str]:
    yield from named(config, config.option)
    yield from config.stash[options.SETTINGS].reports
    if config.stash[options.SETTINGS].keep:
        from pytest_isolate.session.kept.store import default_path  # noqa: PLC0415 - only if it is asked for

        yield str(default_path())
    if (baseline := config.stash[options.SETTINGS].baseline) is not None:
        yield baseline.file
    if config.stash[options.SETTINGS].github and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        yield summary
    yield from _coverage_data()
    yield from _coverage_reports()


def _coverage_data() -> Iterator[str]:
    if (measurement := _measurement()) is not None:
        yield os.path.abspath(measurement.config.data_file)


def _coverage_reports() -> Iterator[str]:
    """Where reports of coverage go that its own configuration names."""
    if (measurement := _measurement()) is not None:
        yield from (os.path.abspath(path) for name in _OF_COVERAGE if (path := getattr(measurement.config, name, "")))


def _measurement() -> Any:
    """The running measurement of coverage, be it pytest-cov's or that of ``coverage run``; None if there is none."""
    coverage = sys.modules.get("coverage")
    return None if coverage is None else coverage.Coverage.current()


def _user() -> str:
    """As pytest names its temporary folder, ``get_user`` of _pytest.tmpdir."""
    try:
        return getpass.getuser()
    except (ImportError, OSError, KeyError):
        return "unknown"
