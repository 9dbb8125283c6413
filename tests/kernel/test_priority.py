"""Who gives way to whom where there are not enough cores."""

from __future__ import annotations

import os

import pytest

from pytest_isolate.sandbox.channel import Frame
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.spec import Spec


def _own() -> list[int]:
    return [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]


@pytest.mark.needs("sandbox")
def test_the_builder_gives_way_to_pytest_and_a_test_does_not() -> None:
    ours = _own()
    with Keeper() as keeper:
        builder = keeper.sandboxes.builders.own.pid
        its = [os.sched_getscheduler(builder), os.getpriority(os.PRIO_PROCESS, builder)]
        outcome = keeper.run(Spec(), lambda line: line.send(Frame.MESSAGE, _own()))

    assert its == [os.SCHED_BATCH, min(ours[1] + 5, 19)]
    assert outcome.value == ours
