"""Runs of pytest, measured by an agent: a process of this module, which reads orders and answers them, a line each.

There is one agent per user, and one order at a time, so that root and an unprivileged user are measured in turn, and by
the same code. An agent of root's benchmark that is an unprivileged user is started by ``.ci/as-user``, with control
groups delegated to it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.ways import PLUGINS, TESTS

CHECKOUT = Path(__file__).resolve().parents[1]
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_LINGERING = 5  # seconds that processes may outlive their pytest


@dataclass(frozen=True, slots=True)
class Row:
    """What is held alike while the ways are compared."""

    parent: int  #: megabytes that pytest holds
    workers: int
    tests: int
    seconds: float  #: that each test takes by itself

    def __str__(self) -> str:
        workers = f"{self.workers} workers" if self.workers > 1 else "1 worker"
        tests = f"{self.tests} tests of {self.seconds * 1000:g} ms" if self.seconds else f"{self.tests} empty tests"
        return f"pytest holds {self.parent} MB, {workers}, {tests}"


@dataclass(frozen=True, slots=True)
class Order:
    """One run of pytest."""

    row: Row
    pytest: str  #: the program of the environment that is measured
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run of pytest."""

    wall: float  #: seconds from the end of collection to that of the last test
    step: float  #: median seconds from the end of a test to that of the next
    drift: float  #: median step of the last tenth over that of the first
    cpu: float  #: seconds of user and system time, of all processes
    peak: float | None  #: bytes: median memory peak of a test, where it is known
    faults: tuple[float, float] | None  #: median page faults of a test: in pytest, in the children that it waited for


class Agent:
    """Measures as one user."""

    def __init__(self, user: str, python: Path) -> None:
        other = user == "rootless" and os.getuid() == 0
        command = [*([".ci/as-user"] if other else []), str(python), "-m", "benchmarks.measure"]
        self.user = user
        self._process = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def measure(self, order: Order) -> Figures | str:
        """The figures, or why there are none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return f"the process that measures as {self.user} has ended"
        found = json.loads(answer)
        return found if isinstance(found, str) else Figures(**found)

    def close(self) -> None:
        """Return when it has ended, and nothing of it is left."""
        with suppress(BrokenPipeError):
            self._process.communicate()


def _run(folder: Path, order: Order) -> Figures | str:
    row = order.row
    (folder / "test_it.py").write_text(TESTS.format(parent=row.parent, tests=row.tests, seconds=row.seconds))
    clock = folder / "clock.json"
    clock.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "CLOCK": str(clock),
        "PATH": f"{Path(order.pytest).parent}:{os.environ['PATH']}",  # pytest-bwrap looks for py.test
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # what else is installed would be measured with all
        "PYTEST_ISOLATE_STATE_FILE": str(folder / "state"),  # PyPI's pytest-isolate
        "PYTHONPATH": str(folder),
    }
    spread = ["-p", "xdist", "-n", str(row.workers), "--maxschedchunk=8"] if row.workers > 1 else []
    group = os.environ.get("ISOLATE_CGROUP")
    place = [f"--isolate-cgroup={group}"] if group and "--isolate-all" in order.options else []
    # xdist takes the last -n.
    command = [order.pytest, "-p", "no:cacheprovider", "-p", "clock", "-q", *order.options, *spread, *place]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "output").open("w+") as output:
        # Some of these ways take seconds for a test; one that hangs must not stop the rest for ever.
        status = _wait_for(command, folder, environment, output.fileno(), limit=300 + row.tests * (1 + row.parent / 50))
        output.seek(0)
        said = output.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        return f"{'took too long' if status == -signal.SIGKILL else f'status {status}'}: {_why(said)}"
    record = json.loads(clock.read_text())
    ends = record["ends"]
    steps = [later - earlier for earlier, later in pairwise(ends)] or [0.0]
    tenth = max(1, len(steps) // 10)
    return Figures(
        wall=ends[-1] - (record["start"] or ends[:1])[0],
        step=statistics.median(steps),
        drift=statistics.median(steps[-tenth:]) / (statistics.median(steps[:tenth]) or 1.0),
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak=statistics.median(record["peaks"]) if record["peaks"] else None,
        faults=_faults(record["faults"]),
    )


def _faults(counted: list[tuple[int, int]]) -> tuple[float, float] | None:
    """Of the second half: what is done once, such as gathering huge pages, is over by then."""
    steps = [
        (later[0] - earlier[0], later[1] - earlier[1]) for earlier, later in pairwise(counted[len(counted) // 2 :])
    ]
    if not steps:
        return None
    pytest, children = zip(*steps, strict=True)
    return statistics.median(pytest), statistics.median(children)


def _wait_for(command: list[str], folder: Path, environment: dict[str, str], output: int, limit: float) -> int:
    """Its status. Processes that it has left behind are waited for too, which counts their time, then killed."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            status = process.wait(limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
    end = time.monotonic() + _LINGERING
    with suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return status


def _why(said: str) -> str:
    """The line of pytest's output that tells most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for mark in ("E  ", "ERROR", "INTERNALERROR", "!!!") for line in lines if line.startswith(mark)]
    return (telling or lines or ["no output"])[-1].removeprefix("E ").strip("! ")[:200]


def main() -> None:
    """Answer until there are no more orders."""
    # Whoever is left by its parent becomes a child of this process, so that its CPU time is counted: the sandboxes of
    # bwrap, whose monitor does not wait for their init.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module, text in PLUGINS.items():
            (folder / f"{module}.py").write_text(text)
        for line in sys.stdin:
            order = json.loads(line)
            answer = _run(folder, Order(Row(**order["row"]), order["pytest"], tuple(order["options"])))
            print(json.dumps(answer if isinstance(answer, str) else asdict(answer)), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
