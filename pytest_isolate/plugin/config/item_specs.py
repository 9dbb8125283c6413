"""Each item's Spec: found and checked after collection, looked up when the item runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_isolate.plugin.config.options import SETTINGS

if TYPE_CHECKING:
    from pytest_isolate.spec.spec import Spec

#: In ``item.stash`` once :func:`check_items` has run; None for a test that is not isolated.
SPEC: pytest.StashKey[Spec | None] = pytest.StashKey()
#: In ``item.stash`` if the item had markers of ours then.
_READ: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()
#: Markers of ours.
OURS = ("isolate", "no_isolate")


def check_items(config: pytest.Config, items: list[pytest.Item]) -> set[str]:
    """Give each item its Spec, or None, in ``item.stash[SPEC]``. For the end of ``pytest_collection_modifyitems``.

    :return: names of the items' markers that are not ours.
    :raises pytest.UsageError: with one line per wrong place, however many tests share it. An xdist worker drops its
        items instead and leaves the lines to its controller: a worker that raises here counts as crashed, and the user
        sees an INTERNALERROR without the message.
    """
    settings = config.stash[SETTINGS]
    foreign: set[str] = set()
    for item in items:
        item.stash[SPEC] = None
        if marks := _marks(item, foreign):
            item.stash[_READ] = marks
    if settings.everything or any(_READ in item.stash for item in items):
        _read_items(config, items)
    return foreign


def _read_items(config: pytest.Config, items: list[pytest.Item]) -> None:
    from pytest_isolate.plugin.config import pytest_testmon, pytest_timeout  # noqa: PLC0415 - only if a test may be isolated
    from pytest_isolate.plugin.config.marker_reader import MarkerReader  # noqa: PLC0415

    settings = config.stash[SETTINGS]
    reader = MarkerReader(
        config.rootpath,
        everything=settings.everything,
        defaults=settings.defaults,
        honour_timeout=pytest_timeout.is_loaded(config),
        images=settings.images,
    )
    specs = [(item, reader.spec(item)) for item in items]
    problems = [*reader.problems]
    if not problems and not settings.off:
        specs = [(item, None if spec is None else _by_hook(item, spec, problems)) for item, spec in specs]
    for item, spec in specs:
        item.stash[SPEC] = None if settings.off else spec
    if any(item.stash[SPEC] for item in items) and (problem := pytest_testmon.problem(config)):
        problems.append(problem)
    if not problems:
        return
    from pytest_isolate.plugin.integrations import xdist  # noqa: PLC0415 - not before something is wrong

    if not xdist.leave_errors(config, problems):
        raise pytest.UsageError(*problems)
    items.clear()


def check_late_markers(item: pytest.Item) -> None:
    """See that ``item`` has the markers that it was given its Spec by. For when its set-up has run.

    :raises pytest.exit.Exception: a fixture or a hook has added one, which comes too late: nobody may believe that the
        test is in a sandbox, or has a limit, which it has not.
    """
    if not item.config.stash[SETTINGS].off and _marks(item, set()) != item.stash.get(_READ, []):
        end_run(
            item.config,
            f"{item.nodeid}: a fixture or a hook added a marker of pytest-isolate-ns while the test was run, which has "
            "no effect then. Write it at the test, or add it in pytest_collection_modifyitems.",
        )


def end_run(config: pytest.Config, reason: str) -> NoReturn:
    """End the run with a usage error while a test runs. No failure of the test, which an xfail mark would expect.

    :raises pytest.exit.Exception: always; an xdist worker also leaves the reason to its controller.
    """
    from pytest_isolate.plugin.integrations import xdist  # noqa: PLC0415 - not before something is wrong

    xdist.leave_errors(config, [reason])
    pytest.exit(reason, returncode=pytest.ExitCode.USAGE_ERROR)


def _marks(item: pytest.Item, foreign: set[str]) -> list[pytest.Mark]:
    """The item's markers of ours; the names of the others are added to ``foreign``."""
    marks = []
    for mark in item.iter_markers():
        if mark.name in OURS:
            marks.append(mark)
        else:
            foreign.add(mark.name)
    return marks


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
        from pytest_isolate.spec.messages import shown  # noqa: PLC0415 - see above

        returned = f"a pytest_isolate_spec hook returned {shown(other)}"
        problems.append(f"{item.nodeid}: {returned}; allowed is a Spec or None.")
        return spec
    return other
