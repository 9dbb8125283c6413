"""What is made of messages that a test may have forged."""

from __future__ import annotations

import traceback

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.registry import Integrations
from pytest_isolate.plugin.report.received import Received, receive
from pytest_isolate.sandbox.outcome import Outcome, Usage
from pytest_isolate.spec.spec import Spec


def received(request: pytest.FixtureRequest, *sent: object) -> Received:
    outcome = Outcome(spec=Spec(), usage=Usage(wall_seconds=0), messages=sent)
    return receive(request.node, outcome, Integrations(request.config, ()), controlled=False)


def test_an_interrupt_is_told_with_its_place(request: pytest.FixtureRequest) -> None:
    interrupt = received(request, [messages.INTERRUPT, [["why \udcff"], [[__file__, 3, "test_it"]]]]).interrupt
    assert interrupt is not None
    assert str(interrupt) == r"why \xff"
    assert "line 3, in test_it" in "".join(traceback.format_exception(interrupt))


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_an_interrupt_in_what_can_be_no_file_is_no_message(request: pytest.FixtureRequest, path: str) -> None:
    made = received(request, [messages.INTERRUPT, [["why"], [[path, 3, "test_it"]]]])
    assert made.interrupt is None
    assert "is no file's name" in made.broken


def test_a_message_that_cannot_be_read_is_shown_whatever_is_in_it(request: pytest.FixtureRequest) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    made = received(request, ["\ud800", None], ["nonsense", deep], [messages.BROKEN, "\udcff"])
    made.broken.encode()
    assert made.broken.count("a message out of the sandbox cannot be read") == 2
