"""What a test costs on this host, in a second: a fork of this process, and one into a sandbox."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_isolate.linux import procfs
from pytest_isolate.sandbox.channel import Line
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import IsolateError, SetupError
from pytest_isolate.spec.spec import Spec

_FORK_SECONDS = 0.3
_SANDBOX_SECONDS = 0.7
_FEWEST = 3  # runs, where each takes long


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians of a second."""

    fork_seconds: float  #: fork(2) of this process, and the wait for its end
    test_seconds: float  #: the same into a sandbox, while the next one is built, and the look at what it left
    process_bytes: int  #: memory of this process, which a fork's time grows with


def run_one(keeper: Keeper, spec: Spec) -> None:
    """Run an empty test. :raises IsolateError: it could not be run, or did not come to its end."""
    outcome = keeper.run(spec, _do_nothing, ahead=spec)
    if failure := outcome.failure():
        raise SetupError("run an empty test", "", 0, f"It {failure}.")


def measure(keeper: Keeper) -> Cost | None:
    """None if no test can be run."""
    try:
        run_one(keeper, Spec())
        return Cost(
            fork_seconds=_median(_fork, _FORK_SECONDS),
            test_seconds=_median(lambda: run_one(keeper, Spec()), _SANDBOX_SECONDS),
            process_bytes=procfs.own_memory("resident"),
        )
    except IsolateError:
        return None


def _do_nothing(line: Line) -> None:
    line("done")


def _fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def _median(step: Callable[[], None], seconds: float) -> float:
    taken: list[float] = []
    start = time.monotonic()
    while len(taken) < _FEWEST or time.monotonic() - start < seconds:
        before = time.perf_counter()
        step()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)
