"""What pytest itself keeps in its memory of a test beside the reports, sent out of the sandbox."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from pytest_isolate import reports

Send = Callable[[object], None]
#: What is to be round the protocol, in the child.
Forwarder = Callable[[Send], AbstractContextManager[None]]


def forwarders(config: pytest.Config) -> Iterator[Forwarder]:
    """Those that are of any use. To be called before the fork.

    Private: ``_pytest.junitxml``, the same in 8.0, 9.0, 9.2.
    """
    junit = config.pluginmanager.getplugin("junitxml")
    if junit is not None and (xml := config.stash.get(junit.xml_key, None)) is not None:
        yield partial(_junit, xml)


def afterwards(config: pytest.Config) -> Iterator[Callable[[Send], None]]:
    """What is to be called when the protocol is over. To be made before the fork.

    Private: ``_pytest.subtests``, where 9.0 counts by ``nodeid``, 9.2 by ``id``; 8.0 has no sub-tests.
    """
    key = getattr(config.pluginmanager.getplugin("subtests"), "failed_subtests_key", None)
    if key is not None:
        failed = config.stash[key]
        yield partial(_send_subtests, failed, sum(failed.values()))


def within(forwarders: Sequence[Forwarder], send: Send, protocol: Callable[[], object]) -> Callable[[], object]:
    """``protocol`` with all of them round it."""
    if not forwarders:
        return protocol

    def run() -> object:
        with contextlib.ExitStack() as stack:
            for forwarder in forwarders:
                stack.enter_context(forwarder(send))
            return protocol()

    return run


class Warned:
    """Records what pytest would have recorded: the filters are in force already, from its wrapper round the protocol.

    Not by ``warnings.catch_warnings``, which copies the filters and makes every module forget what it warned of. The
    process ends with the test, so nothing is to be undone.
    """

    def __init__(self) -> None:
        self._records: list[warnings.WarningMessage] = []

    def start(self) -> None:
        """In the child."""
        warnings.showwarning = self._add  # type: ignore[assignment] # its last two parameters say where to write

    def _add(self, message: Any, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        self._records.append(warnings.WarningMessage(message, category, filename, lineno))

    def send(self, send: Send) -> None:
        """All of them."""
        for record in self._records:
            send(("warning", reports.pack_warning(record)))


@contextlib.contextmanager
def _junit(xml: Any, send: Send) -> Iterator[None]:
    """What ``record_testsuite_property`` and ``record_xml_attribute`` record."""
    before, reporter_of = len(xml.global_properties), xml.node_reporter

    def node_reporter(report: object) -> object:
        reporter = reporter_of(report)
        reporter.add_attribute = lambda name, value: send(("xml_attribute", [str(name), reports.plain(value)]))
        return reporter

    xml.node_reporter = node_reporter
    try:
        yield
    finally:  # by the difference: the fixture is of session scope and has the method already
        for name, value in xml.global_properties[before:]:
            send(("suite_property", [str(name), reports.plain(value)]))


def _send_subtests(failed: dict[str, int], before: int, send: Send) -> None:
    """How many sub-tests failed, which makes the test itself fail where its report is logged.

    Those of unittest are not counted.
    """
    if more := sum(failed.values()) - before:
        send(("failed_subtests", more))
