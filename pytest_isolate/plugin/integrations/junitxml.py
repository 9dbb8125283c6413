"""pytest's junitxml: what tests record in the file, beside their reports.

Private: ``_pytest.junitxml``, the same in 8.0, 9.0, 9.2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send


class JunitXml(Integration):
    """What ``record_testsuite_property`` and ``record_xml_attribute`` record."""

    kinds = (messages.SUITE_PROPERTY, messages.XML_ATTRIBUTE)

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Nothing without ``--junitxml``."""
        junit = self.config.pluginmanager.getplugin("junitxml")
        if junit is None or (xml := self.config.stash.get(junit.xml_key, None)) is None:
            return None
        return partial(_send_records, xml)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Record it in the file's reporter."""
        name, value = data
        plugin = self.config.pluginmanager.getplugin("junitxml")
        xml: Any = self.config.stash[plugin.xml_key]
        if kind == messages.SUITE_PROPERTY:
            xml.add_global_property(name, value)
        else:
            xml.node_reporter(item.nodeid).add_attribute(name, value)


@contextlib.contextmanager
def _send_records(xml: Any, send: Send) -> Iterator[None]:
    before, reporter_of = len(xml.global_properties), xml.node_reporter

    def node_reporter(report: object) -> object:
        reporter = reporter_of(report)
        reporter.add_attribute = lambda name, value: send((messages.XML_ATTRIBUTE, [str(name), serialize.plain(value)]))
        return reporter

    xml.node_reporter = node_reporter
    try:
        yield
    finally:  # by the difference: the fixture is of session scope and has the method already
        for name, value in xml.global_properties[before:]:
            send((messages.SUITE_PROPERTY, [str(name), serialize.plain(value)]))
