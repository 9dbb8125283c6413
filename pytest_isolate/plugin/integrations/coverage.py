"""Coverage across the border: what a test ran inside is added to what coverage.py measured outside.

coverage.py is started in pytest's process, by pytest-cov or ``coverage run``, and its tracer goes on in the fork. What
it finds it would write to a file, which vanishes with the sandbox. So in the child it is handed a :class:`Record` in
place of that file; the record comes out as plain data, with what the test's own subprocesses and forks wrote to data
files, and :class:`Coverage` adds it to coverage's data when all tests have been run. A data file itself never comes
out: it is a database that a test may have made, and nothing out here opens it.

Most tests cover what others have covered. So that is taken out of the collector's own sets of lines or arcs before
they are copied, mapped and compared, which took each child of click's suite a millisecond.

coverage.py has no public way to do this. Private: ``Coverage._collector``, its ``use_data``, ``flush_data``,
``data``, ``covdata`` and ``static_context``; ``Coverage._inorout.source_pkgs_unmatched``, the packages of which it will
warn that they were never imported; the same in 7.0 to 7.17.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send

#: Line numbers, or pairs of them (an arc, from one line to the next) where branches are measured.
Places = Iterable[Any]
_LAST_LINE = 10_000_000  # of a file that is believed: coverage keeps a bit for each


class Record:
    """What was covered, by context and file. Takes from coverage's collector as its ``CoverageData`` would."""

    def __init__(self) -> None:
        self.contexts: dict[str, dict[str, set[Any]]] = {}
        self.tracers: dict[str, str] = {}  #: files that a plugin of coverage measured (templates), and which
        self.arcs = False  #: pairs of lines rather than lines
        self.imported: set[str] = set()  #: packages to be measured that nobody had imported before
        self.raw: dict[str, set[Any]] = {}  #: of the static context, as the collector has it: by file
        self.context = ""  #: of what is added next

    def set_context(self, context: str | None) -> str | None:
        """Begin ``context``, to which belongs what is added next; the one before."""
        before, self.context = self.context, context or ""
        return before

    def add_lines(self, lines: Mapping[str, Places]) -> None:
        """Lines that ran, by file."""
        files = self.contexts.setdefault(self.context, {})
        for file, places in lines.items():
            files.setdefault(file, set()).update(places)

    def add_arcs(self, arcs: Mapping[str, Places]) -> None:
        """Arcs that were taken, by file."""
        self.arcs = True
        self.add_lines(arcs)

    def add_file_tracers(self, tracers: Mapping[str, str]) -> None:
        """Plugins that measured a file."""
        self.tracers.update(tracers)

    def add_file(self, data: Any) -> None:
        """All of a data file, as a ``CoverageData`` that has read it."""
        for context in data.measured_contexts():
            data.set_query_context(context)
            self.set_context(context)
            for file in data.measured_files():
                if data.has_arcs() and (arcs := data.arcs(file)):
                    self.add_arcs({file: arcs})
                elif lines := data.lines(file):
                    self.add_lines({file: lines})
                if tracer := data.file_tracer(file):
                    self.add_file_tracers({file: tracer})

    def plain(self, known: Record | None = None) -> dict[str, object]:
        """As plain data. :param known: what need not be in it, as most tests cover what others have covered."""
        contexts: dict[str, dict[str, list[Any]]] = {}
        for context, files in self.contexts.items():
            before = {} if known is None else known.contexts.get(context, {})
            for file, places in files.items():
                if file not in before or not places <= before[file]:
                    contexts.setdefault(context, {})[file] = sorted(places - before.get(file, set()))
        return {
            "contexts": contexts,
            "tracers": self.tracers,
            "arcs": self.arcs,
            "imported": sorted(self.imported),
            "raw": {file: [*places] for file, places in self.raw.items()},
        }

    def add_plain(self, message: Any) -> None:
        """What :meth:`plain` made, of another record.

        :raises Exception: ``ValueError``, ``TypeError``, ``KeyError``, ``AttributeError``, if it is not that.
        """
        for context, files in message["contexts"].items():
            for file, places in files.items():
                read = [_arc(place) for place in places] if message["arcs"] else [_line(place) for place in places]
                self.set_context(context)
                self.add_lines({file: read})
        self.add_file_tracers({str(file): str(tracer) for file, tracer in message["tracers"].items()})
        self.arcs = self.arcs or bool(message["arcs"])
        self.imported.update(map(str, message["imported"]))
        for file, places in message["raw"].items():
            self.raw.setdefault(file, set()).update([_raw(place) for place in places])


def _line(number: object) -> int:
    if type(number) is not int or abs(number) > _LAST_LINE:
        raise ValueError(f"{number!r} is no line number")
    return number


def _arc(pair: Any) -> tuple[int, int]:
    first, second = pair
    return _line(first), _line(second)


def _raw(place: object) -> int | tuple[int, int]:
    """A line or an arc as the collector has it: where it is C, an arc is one large number."""
    return place if type(place) is int else _arc(place)


class Ongoing(NamedTuple):
    """A measurement that goes on in a fork."""

    coverage: Any
    known: Record  #: what the sandboxes before have sent
    files: frozenset[str]  #: data files of other processes


class Coverage(Integration):
    """What all tests of a run covered in their sandboxes."""

    kinds = (messages.COVERAGE,)

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._record = Record()
        self._coverage: Any = None

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send what the test covers, if a measurement goes on."""
        coverage = _current()
        if coverage is not None and coverage is not self._coverage:
            # What has been collected so far would be looked through in each child.
            with suppress(Exception):  # of sqlite: whoever saves the data will say so, when all tests have been run
                coverage._collector.flush_data()
        self._coverage = coverage
        if coverage is None:
            return None
        return partial(_send_record, Ongoing(coverage, self._record, _data_files(coverage._collector.covdata)))

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Keep what a test covered; errors as of :meth:`Record.add_plain`."""
        self._record.add_plain(data)

    def finish(self) -> None:
        """Add all of it to coverage's data, while the measurement is still on.

        Not by ``Coverage.get_data()``, which at once warns of what is not there: whoever saves the data calls that.
        """
        if self._coverage is None or not self._record.contexts:
            return
        record, self._record = self._record, Record()
        unmatched = _never_imported(self._coverage)
        unmatched[:] = [package for package in unmatched if package not in record.imported]
        data = self._coverage._collector.covdata
        before = data._current_context  # what set_context() returns, since 7.16
        for context, files in record.contexts.items():
            data.set_context(context)
            if record.arcs:
                data.add_arcs(files)
            else:
                data.add_lines(files)
        data.set_context(before)
        data.add_file_tracers(record.tracers)


@contextmanager
def _send_record(ongoing: Ongoing, send: Send) -> Iterator[None]:
    """In the child: send what is covered meanwhile."""
    collector = _go_on(ongoing.coverage)
    own, pid = collector.covdata, calls.getpid()
    record = Record()
    collector.use_data(record, collector.static_context)
    for places in collector.data.values():
        if places:  # the parent's, not ours to send; to clear what is empty would copy a page
            places.clear()
    not_yet = [*_never_imported(ongoing.coverage)]

    def in_fork() -> None:  # one that the test makes writes a data file, as it would outside
        # A new one: that of the parent forgets in a fork to say whether it holds arcs.
        collector.use_data(type(own)(own.base_filename(), suffix=True), collector.static_context)
        collector.covdata.set_context(record.set_context(None))

    os.register_at_fork(after_in_child=in_fork)
    try:
        yield
    finally:
        if calls.getpid() == pid:
            try:
                _flush(collector, record, ongoing.known)
                _take_files(record, _data_files(own) - ongoing.files)
            except Exception as error:  # noqa: BLE001 - of sqlite, of coverage, of a test that removed the folder
                warnings.warn(f"what this test covered is not complete: {error!r}", stacklevel=1)
            record.imported.update({*not_yet}.difference(_never_imported(ongoing.coverage)))
            send((messages.COVERAGE, record.plain(ongoing.known)))


def _flush(collector: Any, record: Record, known: Record) -> None:
    """Add to the record what the collector has and no sandbox before has sent.

    A test with a context of its own has nothing in common with others.
    """
    shared = record.context == (collector.static_context or "")
    news = _take_out(collector.data, known.raw) if shared else {}
    if news or not shared:
        collector.flush_data()
    record.raw = news


def _take_out(data: dict[str, set[Any]], known: Mapping[str, set[Any]]) -> dict[str, set[Any]]:
    """Take what is known out of the collector's sets, in place, as its tracer holds them; what is left."""
    left: dict[str, set[Any]] = {}
    for file, places in [*data.items()]:  # a thread of the test may add one
        before = known.get(file) or set()
        if not places <= before:
            places.difference_update(before)
            left[file] = {*places}
        elif places:
            places.clear()
    return left


def _go_on(coverage: Any) -> Any:
    """The collector of a measurement, which goes on in this fork.

    ``patch = fork`` ends the measurement in every fork and starts another, before 7.17 only at times. pytest-cov goes
    on with the one that it knows.
    """
    restarted = _current()
    if restarted is not coverage:
        if restarted is not None:
            restarted.stop()
        coverage.start()
    return coverage._collector


def _take_files(record: Record, files: Iterable[str]) -> None:
    """Add data files of the test's own processes to the record, and remove them."""
    for file in files:
        data = sys.modules["coverage"].CoverageData(file)
        data.read()
        record.add_file(data)
        data.close(force=True)
        calls.unlink(file)  # not among the files that the test changed


def _never_imported(coverage: Any) -> list[str]:
    """Packages that are to be measured and that nobody has imported yet: coverage's own list."""
    found: list[str] = getattr(getattr(coverage, "_inorout", None), "source_pkgs_unmatched", [])
    return found


def _current() -> Any:
    """The present measurement; not imported, as without it nothing is measured."""
    kind = getattr(sys.modules.get("coverage"), "Coverage", None)
    return None if kind is None else kind.current()


def _data_files(data: Any) -> frozenset[str]:
    """Data files of other processes, beside coverage's own."""
    folder, own = os.path.split(data.base_filename())
    try:
        names = calls.listdir(folder)
    except OSError:  # the test has removed it
        return frozenset()
    return frozenset(
        os.path.join(folder, name) for name in names if name.startswith(f"{own}.") and not name.endswith("-journal")
    )
