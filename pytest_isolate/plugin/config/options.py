"""Marker, command line and ini file to each test's Spec, all of it checked before any test runs.

The command line and the ini file (:mod:`pytest_isolate.plugin.config.config_reader`) are checked when pytest configures
itself, the markers (:mod:`pytest_isolate.plugin.config.marker_reader`) once all tests are collected.
"""

from __future__ import annotations

import os

import pytest

from pytest_isolate.plugin.config import session_options
from pytest_isolate.plugin.config.name_collision import check_owner
from pytest_isolate.plugin.config.settings import Settings, anything_set, is_in_github_actions
from pytest_isolate.spec.keys import DEFAULT_KEYS, IMAGES, KEYS, flag

#: In ``config.stash`` once :func:`configure` has run.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
_UNSUPPORTED = (
    "what happens where the host lacks what a test asks for: error (default), skip, or degrade: run it with what there "
    "is and say what is not in force"
)
_USAGE = "rows of the usage table in the summary, 0 for none (default: 10, with -q none)"
_IMMORTAL = "make functions, classes and constants of pytest's process immortal, for faster tests (from Python 3.12)"
_OUTSIDE = "plugins whose pytest_runtest_makereport is called once more outside: those that keep what tests came to"
_JOBS = "sandboxes that run at a time in this process, or auto: as many as there are cores (default)"
_STALL = "end a test in which each thread waits that long for a lock that nobody can release, 0 for never (default: 60)"
_REPORT = "write a report of the whole run: FILE.html for people, FILE.json for programs; may be repeated"
_BASELINE = "compare memory, CPU and time of each test with those that FILE has of earlier runs, and say what grew"
_UPDATE = "store this run in the file of --isolate-baseline, beside those that it has"
_GREW = "fail the run if a test grew beyond noise (--isolate-baseline)"
_NOISE = "what is no growth, FIGURE:FACTOR:FLOOR above the highest: memory:1.25:3M, cpu:3:0.5, time:3:2; or time:off"
_GITHUB = "annotations and a step's summary of isolated tests: auto (default), which is in GitHub Actions; or off"
_KEEP = "keep the writable layers of tests that failed, or of all, for `python -m pytest_isolate kept`: failed or all"
_KEEP_NUMBER = "how many layers are kept at most (default: 20)"
_KEEP_SIZE = "bytes that kept layers take at most, such as 500M (default: 1G)"
_INSIDE = "higher-scoped fixtures that each sandbox sets up for itself, by name: those that tests share with a thread"


def add_options(parser: pytest.Parser) -> None:
    """Register all options and ini values, as plain text: what is wrong is told later, all at once, with its place."""
    group = parser.getgroup("isolate", "each test in a sandbox of its own (pytest-isolate-ns)")
    _add_options_of_the_run(group)
    _add_ini_values_of_the_run(parser)
    session_options.add_options(parser, group)
    for key in DEFAULT_KEYS:
        about, metavar = f"{KEYS[key].meaning} (tests' markers win)", KEYS[key].metavar
        if KEYS[key].repeated:
            group.addoption(
                flag(key), action="append", metavar=metavar, dest=f"isolate_{key}", help=f"{about}; may be repeated"
            )
            parser.addini(f"isolate_{key}", about, type="linelist")
        else:
            group.addoption(flag(key), metavar=metavar, dest=f"isolate_{key}", help=about)
            parser.addini(f"isolate_{key}", about)


def _add_options_of_the_run(group: pytest.OptionGroup) -> None:
    group.addoption("--isolate-all", action="store_true", help="isolate every test that is not marked no_isolate")
    group.addoption(
        "--isolate-off",
        action="store_true",
        help="isolate none: run all tests in pytest's own process, for debugging; wins over --isolate-all",
    )
    group.addoption("--isolate-unsupported", metavar="WHAT", help=_UNSUPPORTED)
    group.addoption("--isolate-usage", metavar="N", help=_USAGE)
    group.addoption(
        "--isolate-cgroup",
        metavar="/NAME",
        help="delegated cgroup to work under, a path from the cgroup root (on v1: below each controller's mount) that "
        "the user may write to",
    )
    group.addoption("--isolate-jobs", metavar="N", help=_JOBS)
    group.addoption("--isolate-no-immortal-heap", action="store_true", help=f"do not {_IMMORTAL}")
    group.addoption("--isolate-stall-timeout", metavar="SECONDS", help=_STALL)
    group.addoption("--isolate-report", action="append", metavar="FILE", help=_REPORT)
    group.addoption("--isolate-baseline", metavar="FILE", help=_BASELINE)
    group.addoption("--isolate-baseline-update", action="store_true", help=_UPDATE)
    group.addoption("--isolate-baseline-fail", action="store_true", help=_GREW)
    group.addoption("--isolate-baseline-noise", action="append", metavar="NOISE", help=f"{_NOISE}; may be repeated")
    group.addoption("--isolate-github", metavar="WHEN", help=_GITHUB)
    group.addoption("--isolate-keep", metavar="WHICH", help=_KEEP)
    group.addoption("--isolate-keep-number", metavar="N", help=_KEEP_NUMBER)
    group.addoption("--isolate-keep-size", metavar="SIZE", help=_KEEP_SIZE)


def _add_ini_values_of_the_run(parser: pytest.Parser) -> None:
    parser.addini(
        "isolate_all", "isolate every test not marked no_isolate (default: false)", type="bool", default=False
    )
    parser.addini("isolate_unsupported", _UNSUPPORTED)
    parser.addini("isolate_usage", _USAGE)
    parser.addini("isolate_jobs", _JOBS)
    parser.addini("isolate_immortal_heap", f"{_IMMORTAL}; default: true", type="bool", default=True)
    parser.addini("isolate_stall_timeout", _STALL)
    parser.addini("isolate_report", f"{_REPORT}, one per line", type="linelist")
    parser.addini("isolate_baseline", f"{_BASELINE}; a path from the root directory")
    parser.addini("isolate_baseline_fail", f"{_GREW}; default: false", type="bool", default=False)
    parser.addini("isolate_baseline_noise", f"{_NOISE}; one per line", type="linelist")
    parser.addini("isolate_github", _GITHUB)
    parser.addini("isolate_keep", _KEEP)
    parser.addini("isolate_keep_number", _KEEP_NUMBER)
    parser.addini("isolate_keep_size", _KEEP_SIZE)
    parser.addini("isolate_images_path", "folder of the images, from the root directory (default: fixtures_images)")
    parser.addini("isolate_fixtures_inside", _INSIDE, type="args", default=[])
    parser.addini("isolate_makereport_outside", _OUTSIDE, type="args", default=[])


def configure(config: pytest.Config) -> Settings:
    """Check what the command line and the ini file say and keep it in ``config.stash[SETTINGS]``; register the markers.

    Under xdist the controller gets here before it starts a worker, so the user sees an error once.

    :raises pytest.UsageError: with one line per wrong place; also if another package owns our import name.
    """
    check_owner()
    session_options.check_wanted(config)
    config.addinivalue_line(
        "markers",
        f"isolate({', '.join(KEYS)}): run the test in a sandbox of its own: fresh namespaces, a copy-on-write view of "
        "the whole file system, and limits on everything it starts. All keys are optional: "
        'isolate(memory="50M", timeout=10).',
    )
    config.addinivalue_line("markers", "no_isolate: run the test in pytest's own process, also under --isolate-all.")
    config.stash[SETTINGS] = settings = _settings(config)
    return settings


def _settings(config: pytest.Config) -> Settings:
    if not anything_set(config):  # most runs of an environment that has the plugin: these pay for no more
        return Settings(images=os.path.join(config.rootpath, IMAGES), github=is_in_github_actions())
    from pytest_isolate.plugin.config.config_reader import ConfigReader  # noqa: PLC0415 - see above

    return ConfigReader(config).settings()
