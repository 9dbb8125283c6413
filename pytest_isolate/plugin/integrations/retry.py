"""pytest-retry: attempts that it makes inside. Seen with 1.7."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send


class Retry(Integration):
    """It counts attempts, and says at the end of the session what each came to."""

    kinds = (messages.RETRIES,)

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send what it will say."""
        plugin = self._plugin
        return None if plugin is None else functools.partial(_send_retries, plugin)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Add that to what it will say."""
        self._plugin.retry_manager.reporter.stream.write(str(data))

    def outcomes(self) -> tuple[str, ...]:
        """The outcome of an attempt that is followed by another."""
        plugin = self._plugin
        return () if plugin is None else (str(plugin.Defaults.RETRY_OUTCOME),)

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """It looks up, when a report is logged, what it recorded when the report was made."""
        if (plugin := self._plugin) is not None and report.when in plugin.stages:
            plugin.retry_manager.record_node_stats(report)

    @functools.cached_property
    def _plugin(self) -> Any:
        manager = self.config.pluginmanager
        plugin = manager.getplugin("pytest-retry") or manager.getplugin("pytest_retry.retry_plugin")
        known = hasattr(plugin, "stages") and hasattr(getattr(plugin, "Defaults", None), "RETRY_OUTCOME")
        return plugin if known else None


@contextlib.contextmanager
def _send_retries(plugin: Any, send: Send) -> Iterator[None]:
    """From an xdist worker it goes to the controller by a socket of pytest-retry's own."""
    stream = getattr(plugin.retry_manager.reporter, "stream", None)
    before = 0 if stream is None else stream.tell()
    try:
        yield
    finally:
        if stream is not None and (text := stream.getvalue()[before:]):
            send((messages.RETRIES, text))
