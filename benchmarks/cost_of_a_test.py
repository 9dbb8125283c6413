"""What a test costs: plain, in a bare fork, under pytest-forked and isolated, in one run whose rounds are interleaved.

    python benchmarks/cost_of_a_test.py [--tests 200] [--rounds 5] [--parents 60 200] [--workers 1 2]

Each round starts pytest once per way and row, in turn, so that what else the machine does falls on all of them. The
figures are medians over the rounds; ratios to the bare fork of the same row are what tells, not the milliseconds. The
floor is a plugin of twenty lines that forks each test and sends its reports through a pipe, with nothing round it.

As root it measures root, and by ``.ci/as-user python benchmarks/cost_of_a_test.py`` an unprivileged user.
pytest-forked is measured where it is installed, or given by ``--forked FOLDER``, which ``pip install --no-deps --target
FOLDER pytest-forked py`` fills.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

FLOOR = """
import json, os
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        reports = runtestprotocol(item, log=False, nextitem=None)
        pack = item.config.hook.pytest_report_to_serializable
        with os.fdopen(writer, "wb") as file:
            packed = [pack(config=item.config, report=report) for report in reports]
            file.write(json.dumps(packed, default=str).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        records = json.loads(file.read())
    os.waitpid(pid, 0)
    for record in records:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=record)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""

#: Reports of pytest 9.2 hold what pytest-forked (1.6.0) cannot marshal, and every test fails. Without that it works.
FORKED = """
import pytest_forked

plain = pytest_forked.serialize_report
pytest_forked.serialize_report = lambda report: {
    **{key: value for key, value in plain(report).items() if key != "_id"}, "nodeid": report.nodeid
}
"""

#: No cgroups, as for a user to whom none are delegated.
NO_CGROUPS = """
from pytest_isolate import cgroups
from pytest_isolate.cgroups.ladder import Groups, NEEDED

cgroups.find = lambda **_: Groups([], dict.fromkeys(NEEDED, ("left out", "")))
"""

#: When each test was over, and the memory peak of each, where it is known.
CLOCK = """
import json, os, time
import pytest

ends, peaks, started = [], [], []

def pytest_collection_finish(session):
    started.append(time.perf_counter())

@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid):
    ends.append(time.perf_counter())

def pytest_runtest_logreport(report):
    assert report.passed, report.longrepr
    if report.when == "call":
        peaks.extend(value for name, value in report.user_properties if name == "isolate_memory_peak_bytes")

def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        with open(os.environ["CLOCK"], "w") as file:
            json.dump({"start": started, "ends": ends, "peaks": peaks}, file)
"""

TESTS = """
import pytest, time

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

HELD = []
while resident() < {parent} << 20:
    HELD.append([{{"number": i}} for i in range(1000)])

@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number):
    if {seconds}:
        end = time.perf_counter() + {seconds}
        while time.perf_counter() < end:
            pass
"""

#: Options of each way to run the same tests.
WAYS = {
    "plain": [],
    "fork": ["-p", "floor"],
    "forked": ["-p", "pytest_forked", "-p", "fix_forked", "--forked"],
    "isolate": ["-p", "pytest_isolate.pytest_plugin", "--isolate-all"],
    "isolate, no cgroups": ["-p", "pytest_isolate.pytest_plugin", "--isolate-all", "-p", "no_cgroups"],
}
_PLUGINS = ["-p", "no:cacheprovider", "-p", "clock", "-q"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run of pytest, or medians of several."""

    wall: float  #: seconds from the end of collection to that of the last test
    step: float  #: median seconds from the end of a test to that of the next
    drift: float  #: median step of the last tenth over that of the first
    cpu: float  #: seconds of user and system time, of all processes
    peak: float  #: bytes: median memory peak of a test; 0 if unknown


@dataclass(frozen=True, slots=True)
class Row:
    """What is held alike while the ways are compared."""

    parent: int  #: megabytes that pytest holds
    workers: int
    tests: int
    seconds: float  #: that each test takes by itself


def run(folder: Path, row: Row, options: list[str], path: list[str]) -> Figures:
    """One run of pytest."""
    (folder / "test_it.py").write_text(TESTS.format(parent=row.parent, tests=row.tests, seconds=row.seconds))
    clock = folder / "clock.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *path]), "CLOCK": str(clock)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed would be measured with all
    spread = ["-p", "xdist", "-n", str(row.workers), "--maxschedchunk=8"] if row.workers > 1 else []
    command = [sys.executable, "-m", "pytest", *_PLUGINS, *spread, *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout[-3000:]}{result.stderr[-3000:]}")
    record = json.loads(clock.read_text())
    ends = record["ends"]
    steps = [later - earlier for earlier, later in pairwise(ends)] or [0.0]
    tenth = max(1, len(steps) // 10)
    return Figures(
        wall=ends[-1] - (record["start"] or ends[:1])[0],
        step=statistics.median(steps),
        drift=statistics.median(steps[-tenth:]) / (statistics.median(steps[:tenth]) or 1.0),
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak=statistics.median(record["peaks"]) if record["peaks"] else 0.0,
    )


def measure(
    rows: list[Row], ways: list[str], rounds: int, options: list[str], path: list[str]
) -> list[dict[str, object]]:
    """One record per row and way."""
    found: dict[tuple[Row, str], list[Figures]] = {(row, way): [] for row in rows for way in ["start", *ways]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module, text in (
            ("floor", FLOOR),
            ("fix_forked", FORKED),
            ("no_cgroups", NO_CGROUPS),
            ("clock", CLOCK),
        ):
            (folder / f"{module}.py").write_text(text)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for (row, way), figures in found.items():
                arguments = ["-k", "[7]"] if way == "start" else [*WAYS[way], *(options if "isolate" in way else [])]
                figures.append(run(folder, row, arguments, path))
    return [record(row, way, found) for row, way in found if way != "start"]


def record(row: Row, way: str, found: dict[tuple[Row, str], list[Figures]]) -> dict[str, object]:
    """Medians of one way, in milliseconds per test, and their ratios to the bare fork."""

    def median(of: str, name: str) -> float:
        return statistics.median(getattr(figures, name) for figures in found[row, of])

    def figures(of: str) -> tuple[float, float, float]:
        # The CPU time of a start of pytest and of the collection is in all ways alike.
        cpu = (median(of, "cpu") - median("start", "cpu")) / row.tests
        return median(of, "wall") / row.tests, median(of, "step"), cpu

    mine = figures(way)
    made: dict[str, object] = {"parent MB": row.parent, "workers": row.workers, "tests": row.tests}
    made |= {"test ms": row.seconds * 1000, "way": way}
    names = ("wall ms", "median ms", "CPU ms")
    made |= {name: round(value * 1000, 2) for name, value in zip(names, mine, strict=True)}
    floor = figures("fork") if (row, "fork") in found else (0.0, 0.0, 0.0)
    for name, value, base in zip(names, mine, floor, strict=True):
        made[f"x {name[:-3]}"] = round(value / base, 2) if base > 0 else None
    made["drift"] = round(median(way, "drift"), 2)
    peak = median(way, "peak")
    made["peak MB"] = round(peak / 2**20, 1) if peak else None
    return made


def table(records: list[dict[str, object]]) -> str:
    """Of Markdown."""
    lines = ["| " + " | ".join(records[0]) + " |", "|" + "---|" * len(records[0])]
    lines += ["| " + " | ".join("–" if v is None else str(v) for v in one.values()) + " |" for one in records]
    return "\n".join(lines)


def main() -> None:
    """Print a Markdown table and, with ``--json``, write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, nargs="+", default=[200])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parents", type=int, nargs="+", default=[60, 200], metavar="MB")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0], help="that each test takes by itself; 0")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--forked", type=Path, help="folder that has pytest-forked")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    path = [str(asked.forked.absolute())] if asked.forked else []
    ways = [way for way in asked.ways if way != "forked" or path or find_spec("pytest_forked")]
    group = os.environ.get("ISOLATE_CGROUP")
    rows = [
        Row(parent, workers, tests, seconds)
        for parent in asked.parents
        for workers in asked.workers
        for tests in asked.tests
        for seconds in asked.seconds
    ]
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    records = measure(rows, ways, asked.rounds, [f"--isolate-cgroup={group}"] if group else [], path)
    about = {
        "started": started,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "user": "root" if os.getuid() == 0 else "unprivileged",
        "rounds": asked.rounds,
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(table(records))
    if asked.json:
        asked.json.write_text(json.dumps({"about": about, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
