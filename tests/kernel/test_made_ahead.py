"""Sandboxes that are made before a test needs them."""

from __future__ import annotations

import time

import pytest

from pytest_isolate.linux import procfs
from pytest_isolate.sandbox.channel import Frame
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.spec import Spec

_MANY = 12  # as four jobs of short tests and more ask for


def _sandboxes(builder: int) -> set[int]:
    return {pid for pid, parent in procfs.parents().items() if parent == builder}


@pytest.mark.needs("sandbox")
def test_as_many_as_are_asked_for_stand_ready_and_are_not_made_again() -> None:
    with Keeper() as keeper:
        keeper.run(Spec(), lambda line: line.send(Frame.MESSAGE, 1))
        keeper.sandboxes.ask(Spec(), ready=_MANY)
        builder = keeper.sandboxes.builders.own.pid
        deadline = time.monotonic() + 60
        while len(_sandboxes(builder)) <= _MANY and time.monotonic() < deadline:  # and the one that is handed over
            time.sleep(0.01)
        there = _sandboxes(builder)
        time.sleep(0.3)
        assert len(there) == _MANY + 1
        assert _sandboxes(builder) == there
