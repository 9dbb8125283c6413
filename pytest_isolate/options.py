"""Marker, command line and ini file to each test's Spec, all of it checked before any test runs.

The command line and the ini file (:mod:`pytest_isolate.reading`) are checked when pytest configures itself, the
markers (:mod:`pytest_isolate.markers`) once all tests are collected.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_isolate.collision import check_owner
from pytest_isolate.keys import DEFAULT_KEYS, IMAGES, KEYS, flag
from pytest_isolate.settings import Settings, anything_said, honours_pytest_timeout

if TYPE_CHECKING:
    from pytest_isolate.spec import Spec

#: In ``config.stash`` once :func:`configure` has run.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
#: In ``item.stash`` once :func:`check_items` has run; None for a test that is not isolated.
SPEC: pytest.StashKey[Spec | None] = pytest.StashKey()
#: In ``item.stash`` if the item had markers of ours then.
_READ: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()

_MARKERS = ("isolate", "no_isolate")
_WORKER_ERRORS = "isolate_usage_errors"  #: key in an xdist worker's ``workeroutput``

_UNSUPPORTED = (
    "what happens where the host lacks what a test asks for: error (default), skip, or degrade: run it with what there "
    "is and say what is not in force"
)
_OUTSIDE = "plugins whose pytest_runtest_makereport is called once more outside: those that keep what tests came to"
_INSIDE = "wider-scoped fixtures that each sandbox sets up for itself, by name: those that tests share with a thread"


def add_options(parser: pytest.Parser) -> None:
    """Register all options and ini values, as plain text: what is wrong is told later, all at once, with its place."""
    group = parser.getgroup("isolate", "each test in a sandbox of its own (pytest-isolate-ns)")
    group.addoption("--isolate-all", action="store_true", help="isolate every test that is not marked no_isolate")
    group.addoption(
        "--isolate-off",
        action="store_true",
        help="isolate none: run all tests in pytest's own process, for debugging; wins over --isolate-all",
    )
    group.addoption("--isolate-unsupported", metavar="WHAT", help=_UNSUPPORTED)
    group.addoption("--isolate-usage", metavar="N", help="rows of the usage table in the summary, 0 for none; 10")
    group.addoption(
        "--isolate-cgroup",
        metavar="/NAME",
        help="delegated cgroup to work under, a path from the cgroup root (on v1: below each controller's mount) that "
        "the user may write to",
    )
    parser.addini("isolate_unsupported", _UNSUPPORTED)
    parser.addini("isolate_images_path", "folder that has the images, from the root directory; fixtures_images")
    parser.addini("isolate_fixtures_inside", _INSIDE, type="args", default=[])
    parser.addini("isolate_makereport_outside", _OUTSIDE, type="args", default=[])
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


def configure(config: pytest.Config) -> Settings:
    """Check what the command line and the ini file say and keep it in ``config.stash[SETTINGS]``; register the markers.

    Under xdist the controller gets here before it starts a worker, so the user sees an error once.

    :raises pytest.UsageError: with one line per wrong place; also if another package owns our import name.
    """
    check_owner()
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
    if not anything_said(config):  # most runs of an environment that has the plugin: these pay for no more
        return Settings(images=os.path.join(config.rootpath, IMAGES))
    from pytest_isolate.reading import Reading  # noqa: PLC0415 - see above

    return Reading(config).settings()


def check_items(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each item its Spec, or None, in ``item.stash[SPEC]``. For the end of ``pytest_collection_modifyitems``.

    :raises pytest.UsageError: with one line per wrong place, however many tests share it. An xdist worker drops its
        items instead and leaves the lines to :func:`raise_worker_errors`: a worker that raises here counts as crashed,
        and the user sees an INTERNALERROR without the message.
    """
    settings = config.stash[SETTINGS]
    for item in items:
        item.stash[SPEC] = None
        if marks := _marks(item):
            item.stash[_READ] = marks
    if not settings.everything and not any(_READ in item.stash for item in items):
        return
    from pytest_isolate.markers import MarkerReader  # noqa: PLC0415 - only if a test may be isolated

    reader = MarkerReader(
        config.rootpath,
        everything=settings.everything,
        defaults=settings.defaults,
        honour_timeout=honours_pytest_timeout(config),
        images=settings.images,
    )
    specs = [(item, reader.spec(item)) for item in items]
    problems = [*reader.problems]
    if not problems and not settings.off:
        specs = [(item, None if spec is None else _by_hook(item, spec, problems)) for item, spec in specs]
    for item, spec in specs:
        item.stash[SPEC] = None if settings.off else spec
    if not problems:
        return
    if (output := getattr(config, "workeroutput", None)) is None:
        raise pytest.UsageError(*problems)
    output[_WORKER_ERRORS] = problems
    items.clear()


def check_late_markers(item: pytest.Item) -> None:
    """See that ``item`` has the markers that it was given its Spec by. For when its set-up has run.

    :raises pytest.exit.Exception: a fixture or a hook has added one, which comes too late: nobody may believe that the
        test is in a sandbox, or has a limit, which it has not.
    """
    if not item.config.stash[SETTINGS].off and _marks(item) != item.stash.get(_READ, []):
        end_run(
            item.config,
            f"{item.nodeid}: a fixture or a hook added a marker of pytest-isolate-ns while the test was run, which has "
            "no effect then. Write it at the test, or add it in pytest_collection_modifyitems.",
        )


def end_run(config: pytest.Config, reason: str) -> NoReturn:
    """End the run with a usage error while a test runs. No failure of the test, which an xfail mark would expect.

    :raises pytest.exit.Exception: always; of an xdist worker's, :func:`raise_worker_errors` tells.
    """
    if (output := getattr(config, "workeroutput", None)) is not None:
        output[_WORKER_ERRORS] = [reason]
    pytest.exit(reason, returncode=pytest.ExitCode.USAGE_ERROR)


def _marks(item: pytest.Item) -> list[pytest.Mark]:
    return [mark for mark in item.iter_markers() if mark.name in _MARKERS]


def raise_worker_errors(node: Any) -> None:
    """Raise in the xdist controller what a worker found wrong. For ``pytest_testnodedown``.

    :raises pytest.UsageError: at the first worker; of :func:`check_items` the others found the same.
    """
    # A worker that crashed has no output.
    if problems := getattr(node, "workeroutput", {}).get(_WORKER_ERRORS):
        raise pytest.UsageError(*problems)


def spec_for(item: pytest.Item) -> Spec | None:
    """The sandbox that ``item`` is to run in; None if it runs in pytest's own process.

    :raises pytest.UsageError: only for an item that was not collected in the usual way and has not been checked yet.
    """
    if SPEC not in item.stash:
        check_items(item.config, [item])
    return item.stash[SPEC]


def _by_hook(item: pytest.Item, spec: Spec, problems: list[str]) -> Spec:
    """``spec``, or what a ``pytest_isolate_spec`` hook wants instead."""
    other: object = item.ihook.pytest_isolate_spec(item=item, spec=spec)
    if other is None:
        return spec
    if not isinstance(other, type(spec)):
        from pytest_isolate.values import shown  # noqa: PLC0415 - see above

        returned = f"a pytest_isolate_spec hook returned {shown(other)}"
        problems.append(f"{item.nodeid}: {returned}; allowed is a Spec or None.")
        return spec
    return other
