"""A keeper that only forks: any host can run it, and the test says how a run ends."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox import wire
from pytest_isolate.sandbox.channel import Line
from pytest_isolate.sandbox.outcome import Outcome, Usage
from pytest_isolate.spec.spec import Spec


class FakeLine(Line):
    """Nobody watches: a message is only written."""

    def __call__(self, message: Any) -> None:
        wire.send(self.writer, message)


class FakeKeeper:
    """In the place of :class:`pytest_isolate.session.keeper.Keeper`. What is called ``on_...`` may raise."""

    def __init__(self, **_: Any) -> None:
        self.on_init()

    def on_init(self) -> None: ...

    def on_check(self) -> None: ...

    def on_run(self) -> None: ...

    def changes(self, _messages: list[Any]) -> dict[str, Any]:
        """Fields of each run's Outcome, in the place of what they were. ``_messages``: all that the child sent."""
        return {}

    def describe(self) -> str:
        return "fake"

    def check(self, _: Spec) -> None:
        self.on_check()

    def degraded(self, _: Spec) -> tuple[tuple[str, str], ...]:
        return ()

    def look_again(self) -> None: ...

    def close(self) -> None: ...

    def run(self, spec: Spec, body: Callable[[Line], object], **_: object) -> Outcome:
        self.on_run()
        reader, writer = os.pipe()
        with (
            warnings.catch_warnings()
        ):  # of threads, which a worker of xdist has; the real keeper's fork is not Python's
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            body(FakeLine(Fd(writer), Fd(-1), spec, ()))
            wire.send(writer, "end")
            os._exit(0)
        os.close(writer)
        frames = wire.Reader()
        messages: list[Any] = []
        while piece := os.read(reader, 1 << 20):
            messages += frames.feed(piece)
        os.close(reader)
        status = os.waitpid(pid, 0)[1]
        complete = messages[-1:] == ["end"]
        outcome = Outcome(
            spec=spec,
            usage=Usage(wall_seconds=0.25),
            complete=complete,
            messages=tuple(messages[:-1] if complete else messages),
            exit_status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        )
        return replace(outcome, **self.changes(messages))
