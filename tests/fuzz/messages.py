"""Fuzzes what a test's process sends, which the test may forge: frames, and the reports in them."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from _pytest.config import _prepareconfig
from _pytest.junitxml import LogXML
from _pytest.main import Session
from _pytest.runner import runtestprotocol

from pytest_isolate.cgroups.interface import Figures
from pytest_isolate.linux import native
from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.registry import Integrations
from pytest_isolate.plugin.report.received import receive
from pytest_isolate.sandbox import wire
from pytest_isolate.sandbox.channel import Frame
from pytest_isolate.sandbox.outcome import Outcome, Usage
from pytest_isolate.sandbox.watcher import Watcher
from pytest_isolate.spec.spec import Spec
from tests.fuzz.parser import Parser, Taker, edited

_LENGTH = struct.Struct("=I")


def _try_frames(data: bytes) -> None:
    """A stream of frames comes out the same in pieces of any size, and anything else is a ValueError."""
    taker = Taker(data)
    size, stream = 1 + taker.below(200), taker.rest()
    whole = _frames([stream])
    assert repr(_frames([stream[at : at + size] for at in range(0, len(stream), size)])) == repr(whole)


def _frames(pieces: list[bytes]) -> list[object]:
    reader = wire.Reader()
    found: list[object] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(frame)  # noqa: PERF402 - extend() would lose those before a broken one
    except ValueError:
        found.append("broken")
    return found


def _frame(content: object) -> bytes:
    text = json.dumps(content).encode()
    return _LENGTH.pack(len(text)) + text


def _frame_seeds() -> Iterator[bytes]:
    yield b"\7" + _frame([0, {"a": [1.5, None, "é"]}]) + _frame([1, None])
    yield b"\0" + _LENGTH.pack(2**32 - 1) + b"x"
    yield b"\x10" + _LENGTH.pack(4000) + b"[" * 4000


_TOLD: tuple[list[object], ...] = (
    [Frame.MESSAGE, ["report", {}]],
    [Frame.END, None],
    [Frame.ERROR, "Traceback"],
    [Frame.LEFT, ["process", "sleep", "since"]],
    [Frame.ATTENDED, None],
    [Frame.USAGE, None],
    [Frame.STATUS, 1],
    [Frame.REFUSED, ["enter", "it", 1, "do"]],
    [Frame.FULL, None],
)


def _try_told(data: bytes) -> None:
    """The watcher takes any frame: what is none of its own changes nothing."""
    taker = Taker(data)
    frame = edited(json.loads(json.dumps(_TOLD[taker.below(len(_TOLD))])), taker)
    watcher = Watcher(
        processes=Mock(pidfd=-1),
        reader=native.Fd(-1),
        control=_CONTROL,
        stacks=native.Fd(-1),
        figures=Figures,
        timeout=None,
        stall_timeout=0,
        started=0,
        has_terminal=bool(taker.below(2)),
    )
    watcher._hear(frame)
    assert all(isinstance(leak.name, str) for leak in watcher._left)


_CONTROL = native.Fd(os.open(os.devnull, os.O_WRONLY))
_TESTS = """
import warnings, pytest
class TestIt:
    @pytest.fixture
    def broken(self): raise OSError("no")
    def test_fails(self, record_property): record_property("a", 1); print("out"); warnings.warn("w"); assert [1] == [2]
    def test_passes(self): pass
    @pytest.mark.skip(reason="why")
    def test_skips(self): pass
    def test_is_in_error(self, broken): pass
"""


class _Pytest:
    """A session of pytest in this process, with its terminal going nowhere, and what real tests of it report."""

    def __init__(self) -> None:
        self.item: Any = None
        self.integrations: Any = None
        self.seeds: list[Any] = []

    @contextmanager
    def enter(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "test_it.py")
            path.write_text(_TESTS)
            config = _prepareconfig(["-p", "no:cacheprovider", "-p", "no:randomly", "-rA", "-c", os.devnull, str(path)])
            config._do_configure()
            session = Session.from_config(config)
            config.hook.pytest_sessionstart(session=session)
            items = session.perform_collect()
            self.integrations = Integrations(config, ())
            for item in items:
                for report in runtestprotocol(item, log=False, nextitem=None):
                    packed: Any = serialize.pack(config, report)
                    self.seeds.append([messages.REPORT, packed | {"nodeid": items[0].nodeid}])
            warning = {"module": "builtins", "name": "UserWarning", "message": "m", "filename": "f", "lineno": 1}
            self.seeds += [
                [messages.WARNING, warning],
                [messages.EXIT, ["reason", 3]],
                [messages.INTERRUPT, [["a"], [["f.py", 3, "name"]]]],
                [messages.SHOULD_STOP, "why"],
                [messages.SHOULD_FAIL, True],
                [messages.BROKEN, "text"],
                [messages.AGAIN, None],
            ]
            self.item = items[0]
            yield

    def try_one(self, data: bytes) -> None:
        """Whatever a test has forged, pytest's terminal and junitxml can show what is made of it."""
        taker = Taker(data)
        sent = [edited(self.seeds[taker.below(len(self.seeds))], taker) for _ in range(1 + taker.below(2))]
        sent = json.loads(json.dumps(sent))
        outcome = Outcome(spec=Spec(), usage=Usage(wall_seconds=1), exit_status=0, complete=True, messages=tuple(sent))
        received = receive(self.item, outcome, self.integrations, controlled=bool(taker.below(2)))
        self._show([*received.reports, *(report for earlier in received.earlier for report in earlier)])
        if received.interrupt is not None:
            traceback.format_exception(received.interrupt)  # with a file's name, which may be any
        for text in (
            str(received.interrupt),
            received.broken,
            *(str(why) for _, why in received.stops),
            *map(str, received.warnings),
        ):
            text.encode()

    def _show(self, reports: list[pytest.TestReport]) -> None:
        terminal = self.item.config.pluginmanager.get_plugin("terminalreporter")
        terminal._tw._file = io.TextIOWrapper(io.BytesIO(), "utf-8")
        terminal.stats.clear()
        terminal._progress_nodeids_reported.clear()
        xml = LogXML("/dev/null", None)
        for report in reports:
            terminal.pytest_runtest_logreport(report)
            xml.pytest_runtest_logreport(report)
        for show in (
            terminal.summary_errors,
            terminal.summary_failures,
            terminal.summary_passes,
            terminal.short_test_summary,
        ):
            show()
        xml.pytest_sessionstart()
        xml.pytest_sessionfinish()


_PYTEST = _Pytest()


def _report_seeds() -> Iterator[bytes]:
    for number in range(20):
        yield from (bytes([number, 0, 0, part, 4, kind, 7]) for part in range(0, 40, 3) for kind in range(7))


MESSAGES = (
    Parser(name="frames", try_one=_try_frames, seeds=_frame_seeds),
    Parser(name="told", try_one=_try_told, seeds=lambda: (bytes([number, 1, 2, 3, 4, 5, 6]) for number in range(9))),
    Parser(name="reports", try_one=_PYTEST.try_one, seeds=_report_seeds, enter=_PYTEST.enter),
)
