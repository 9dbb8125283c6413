"""Where a test was when it died or broke a limit, as far as anybody can tell."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.report import tracebacks

if TYPE_CHECKING:
    from pytest_isolate.plugin.report.tracebacks import Place
    from pytest_isolate.sandbox.outcome import Outcome

#: Frames of a dump that does not lead to the test, as it has only the 100 innermost: of an endless recursion.
_INNERMOST = 5
_DOCTEST = re.compile(r"<doctest .*\[(\d{1,9})\]>")  #: what doctest calls the file of an example


def find_places(item: pytest.Item, outcome: Outcome, stacks: str, own: pytest.TestReport | None) -> list[Place]:
    """Find the way to where the test was, outermost first: at the least the place of the test itself.

    :param stacks: faulthandler's, without the frames that each test has outside of its own.
    :param own: the test's own report of the same phase, if it came to that.
    """
    path, line, _ = item.reportinfo()
    file, first = os.fspath(path), (line or 0) + 1
    # SIGKILL and an exit leave no stacks; what there is then is of a child that died before.
    dumped = outcome.timed_out or outcome.stalled is not None or outcome.signal not in (None, signal.SIGKILL)
    if dumped and (found := tracebacks.places_of_dump(stacks)):
        return _in_docstring(item, file, found[-_INNERMOST:] if "\n  ...\n" in stacks else found)
    if own is not None and (failed := _line_of_failure(own, file)) is not None:
        function = tracebacks.find_function(file, failed)
        return [(file, failed, item.name if function is None else function[1][2])]
    function = tracebacks.find_function(file, first)
    return [(file, first, item.name) if function is None or function[0] != first else function[1]]


def _in_docstring(item: pytest.Item, file: str, places: list[Place]) -> list[Place]:
    """The places from the example of a doctest on, whose own is then in the docstring; all, if it is no doctest."""
    doctest = getattr(item, "dtest", None)
    for number, (path, line, name) in enumerate(places):
        found = _DOCTEST.fullmatch(path)
        if found and doctest is not None and int(found[1]) < len(doctest.examples):
            first = (doctest.lineno or 0) + doctest.examples[int(found[1])].lineno
            return [(file, first + line, name), *places[number + 1 :]]
    return places


def _line_of_failure(report: pytest.TestReport, file: str) -> int | None:
    """The innermost line of the test's own file in the traceback of a failure.

    Paths there may be relative to a folder that the test was in, so names are compared.
    """
    longrepr = report.longrepr
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
    crash: Any = getattr(longrepr, "reprcrash", None)
    places = [*(getattr(entry, "reprfileloc", None) for entry in entries), crash]
    name = os.path.basename(file)
    lines = [int(place.lineno) for place in places if place is not None and os.path.basename(place.path) == name]
    return lines[-1] if lines else None
