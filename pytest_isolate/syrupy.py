"""Snapshots of syrupy: which of them a test asked for, and what it would have written.

syrupy writes when the session ends, and deletes then what no test of its process has asked for. Private to it:
``Config._syrupy`` and what is below; the same in 4.9, 5.1 and 7.0.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def sent(config: pytest.Config, send: Callable[[object], None]) -> Iterator[None]:
    """Send what is asserted within, and what is to be written; :func:`add` takes it."""
    session: Any = config._syrupy  # type: ignore[attr-defined]
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
            send(("snapshots", [asserted, written]))


def add(item: pytest.Item, asserted: Any, written: Any) -> None:
    """Let the session know that ``item`` asserted this, and what it is to write at its end.

    A kind of snapshots whose class pytest's process cannot find, as a fixture makes it anew for each test, can be known
    to be used, but not written.
    """
    session: Any = item.config._syrupy  # type: ignore[attr-defined]
    theirs = sys.modules["syrupy.assertion"]
    location = sys.modules["syrupy.location"].PyTestLocation(item)
    usual = sys.modules["syrupy.extensions"].DEFAULT_EXTENSION
    for name, results in asserted:
        assertion = theirs.SnapshotAssertion(
            session=session, extension_class=_class(name) or usual, test_location=location, update_snapshots=False
        )
        for number, result in enumerate(results):
            # Of the data only its place is needed: it has been compared, and what is to be written is below.
            assertion.executions[number] = theirs.AssertionResult(
                **result, asserted_data=None, recalled_data=None, exception=None, test_location=location
            )
    for name, index, data in written:
        if (extension := _class(name)) is None:
            warnings.warn(
                f"{item.nodeid}: a snapshot is not written, as its class is not at the top of a module: {name}",
                stacklevel=1,
            )
        else:
            session.queue_snapshot_write(
                extension=extension(), test_location=location, data=_decoded(data), index=index
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
