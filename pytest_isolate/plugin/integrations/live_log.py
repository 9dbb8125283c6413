"""pytest's ``log_cli``: what a test logs is on the terminal as in a plain run.

During set-up and call the child writes there at once. Its tear-down comes after the word on how the test ended, which
pytest's process writes when the test is over: so what is logged then is sent, and shown after that word.

Private: ``log_cli_handler`` of pytest's ``logging-plugin``, its ``set_when``, ``_when`` and ``_first_record_emitted``;
``_current_line`` of the terminal's writer; 8.0 to 9.2.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send

_TEAR_DOWN = "teardown"


class _TearDown(NamedTuple):
    """Of one attempt at a test."""

    written: bool  #: whether the child has written to the terminal before
    records: list[dict[str, Any]]


class LiveLog(Integration):
    """Nothing without ``log_cli``."""

    kinds = (messages.TEAR_DOWN_BEGINS, messages.LIVE_RECORD)

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._item: pytest.Item | None = None  #: the test that is being reported
        self._tear_downs: list[_TearDown] = []  #: its own that have not been shown yet
        self._handler: Any = _handler(config)
        if self._handler is not None:
            self._handler.set_when = partial(_set_when, self._handler)

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Sends what is logged in the tear-down."""
        return None if self._handler is None else partial(_hand_on, self._handler)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Keep it until it is time to show it."""
        if item is not self._item:
            self._item, self._tear_downs = item, []
        if kind == messages.TEAR_DOWN_BEGINS:
            self._tear_downs.append(_TearDown(bool(data), []))
        else:
            self._tear_downs[-1].records.append({str(name): value for name, value in data.items()})

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Before the word on how the test ended."""
        if self._tear_downs and self._tear_downs[0].written:
            self._handler._first_record_emitted = True
            if (writer := getattr(self._handler.stream, "_tw", None)) is not None:  # pytest's own terminal
                # The child has ended the line that pytest's process wrote last: what follows is adjusted to that.
                writer._current_line = ""

    def logged(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """After that word: show what the tear-down logged."""
        if self._tear_downs and (report.when == "call" or (report.when == "setup" and not report.passed)):
            records = self._tear_downs.pop(0).records
            if records:
                self._handler.set_when(_TEAR_DOWN)
            for fields in records:
                self._handler.handle(logging.makeLogRecord(fields))


def begin(config: pytest.Config) -> None:
    """In the child of a test that began before its turn, of which pytest has not told its plugins yet."""
    if (handler := _handler(config)) is not None:
        handler.reset()
        handler.set_when("start")


def is_shown(config: pytest.Config) -> bool:
    """Whether there is such a log."""
    return _handler(config) is not None


def _handler(config: pytest.Config) -> Any:
    handler = getattr(config.pluginmanager.getplugin("logging-plugin"), "log_cli_handler", None)
    return handler if hasattr(handler, "stream") else None


def _set_when(handler: Any, when: str | None) -> None:
    """A phase has one heading, though a part of it is done in each process, and a set-up may be made up for at its end.

    In a plain run none follows itself, and no set-up a tear-down: between two there are reports.
    """
    if when != handler._when and (handler._when, when) != (_TEAR_DOWN, "setup"):
        type(handler).set_when(handler, when)


@contextlib.contextmanager
def _hand_on(handler: Any, send: Send) -> Iterator[None]:
    owner, main = calls.getpid(), threading.get_ident()

    def set_when(when: str | None) -> None:
        if when == _TEAR_DOWN:
            send((messages.TEAR_DOWN_BEGINS, handler._first_record_emitted))
        _set_when(handler, when)

    def emit(record: logging.LogRecord) -> None:
        # Two threads, or two processes, that send at the same time would mix their messages.
        if handler._when != _TEAR_DOWN or threading.get_ident() != main or calls.getpid() != owner:
            type(handler).emit(handler, record)
        else:
            try:
                fields = _fields(handler, record)
            except Exception:  # noqa: BLE001 - as logging does: a message that does not fit its arguments
                handler.handleError(record)
            else:
                send((messages.LIVE_RECORD, fields))

    handler.set_when, handler.emit = set_when, emit
    yield


def _fields(handler: Any, record: logging.LogRecord) -> object:
    """Of a record that is formatted in another process."""
    handler.format(record)  # gives it its message, and the text of an exception
    return serialize.plain({**vars(record), "msg": record.getMessage(), "args": None, "exc_info": None})
