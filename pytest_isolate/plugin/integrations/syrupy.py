"""Snapshots of syrupy: which of them a test asked for, and what it would have written.

syrupy writes when the session ends, and deletes then what no test of its process has asked for. Private to it:
``Config._syrupy`` and what is below; the same in 4.9, 5.1 and 7.0.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send


class Syrupy(Integration):
    """Its session collects what each test asserts and writes."""

    kinds = (messages.SNAPSHOTS,)

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send what the test asserts, and what is to be written."""
        session = getattr(self.config, "_syrupy", None)
        return None if session is None else functools.partial(_send_snapshots, session)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Let the session know that ``item`` asserted this, and what it is to write at its end."""
        asserted, written = data
        session: Any = self.config._syrupy  # type: ignore[attr-defined]
        location = sys.modules["syrupy.location"].PyTestLocation(item)
        _assert_again(session, location, asserted)
        for name, index, content in written:
            # A fixture may make the class anew for each test: then its snapshots are known to be used, but not written.
            if (extension := _class(name)) is None:
                warnings.warn(
                    f"{item.nodeid}: a snapshot is not written, as its class is not at the top of a module: {name}",
                    stacklevel=1,
                )
            else:
                session.queue_snapshot_write(
                    extension=extension(), test_location=location, data=_decoded(content), index=index
                )


@contextlib.contextmanager
def _send_snapshots(session: Any, send: Send) -> Iterator[None]:
    before, queue, written = len(session._assertions), session.queue_snapshot_write, []

    def queue_snapshot_write(*, extension: Any, test_location: Any, data: str | bytes, index: str | int) -> None:
        written.append([_name_of(type(extension)), index, _encoded(data)])
        queue(extension=extension, test_location=test_location, data=data, index=index)

    session.queue_snapshot_write = queue_snapshot_write
    try:
        yield
    finally:
        asserted = [
            [_name_of(assertion.extension_class), [_result(result) for result in assertion.executions.values()]]
            for assertion in session._assertions[before:]
        ]
        if asserted:
            send((messages.SNAPSHOTS, [asserted, written]))


def _assert_again(session: Any, location: Any, asserted: Any) -> None:
    """Give the session assertions that say which snapshots were used."""
    theirs = sys.modules["syrupy.assertion"]
    usual = sys.modules["syrupy.extensions"].DEFAULT_EXTENSION
    for name, results in asserted:
        assertion = theirs.SnapshotAssertion(
            session=session, extension_class=_class(name) or usual, test_location=location, update_snapshots=False
        )
        for number, result in enumerate(results):
            # Of the data only its place is needed: it has been compared, and what is to be written comes apart.
            assertion.executions[number] = theirs.AssertionResult(
                **result, asserted_data=None, recalled_data=None, exception=None, test_location=location
            )


def _result(result: Any) -> dict[str, object]:
    return {
        "snapshot_location": str(result.snapshot_location),
        "snapshot_name": str(result.snapshot_name),
        "created": bool(result.created),
        "updated": bool(result.updated),
        "success": bool(result.success),
    }


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    """The class of that name, if a module that this process has loaded has it; None if not."""
    module, _, found = name.partition(":")
    return getattr(sys.modules.get(module), found, None)  # of a local class or a nested one, no such attribute


def _encoded(data: str | bytes) -> list[str]:
    return [data, ""] if isinstance(data, str) else ["", base64.b64encode(data).decode()]


def _decoded(data: Any) -> str | bytes:
    text, coded = data
    return base64.b64decode(coded) if coded else str(text)
