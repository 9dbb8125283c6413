"""What an isolated test costs against a bare fork, in one run: rounds of both, interleaved, medians and their ratio.

    python benchmarks/cost_of_a_test.py [--tests 300] [--rounds 5] [--held 0 150 450]

The floor is a plugin of twenty lines that forks each test and sends its reports through a pipe, with nothing round it.
``--held`` are megabytes of Python objects that pytest holds. The ratio tells, not the milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOOR = """
import json, os
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
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
    return True
"""

TESTS = """
import pytest

HELD = [{{"number": i}} for i in range({objects})]

@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number):
    pass
"""

_OBJECT = 264  # bytes of one of HELD, its dictionary and number included
_PLUGINS = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout", "-q"]


def run(folder: Path, *arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of one run of pytest."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", *_PLUGINS, *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak(folder: Path, *options: str) -> str:
    """Memory peak of one empty test, from its report."""
    report = folder / "peak.xml"
    run(folder, "--isolate-all", f"--junitxml={report}", "-k", "[7]", *options)
    _, _, rest = report.read_text().partition('isolate_memory_peak_bytes" value="')
    return f"{int(rest.split(chr(34))[0]) / 2**20:.1f} MB" if rest else "–"


def measure(held: int, tests: int, rounds: int, options: list[str]) -> dict[str, object]:
    """Milliseconds per test, of both ways, with ``held`` megabytes of objects in pytest's process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "floor.py").write_text(FLOOR)
        (folder / "test_it.py").write_text(TESTS.format(objects=held * 2**20 // _OBJECT, tests=tests))
        ways = {"none": ["-k", "[7]"], "fork": ["-p", "floor"], "isolate": ["--isolate-all", *options]}
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, arguments in ways.items():
                times[way].append(run(folder, *arguments))
        memory = peak(folder, *options)
    wall, cpu = ({way: statistics.median(t[i] for t in times[way]) for way in ways} for i in (0, 1))
    row: dict[str, object] = {"held MB": held}
    for way in ("fork", "isolate"):
        row[f"{way} wall ms"] = round((wall[way] - wall["none"]) / tests * 1000, 2)
        row[f"{way} cpu ms"] = round((cpu[way] - cpu["none"]) / tests * 1000, 2)
    row["wall ratio"] = round((wall["isolate"] - wall["none"]) / (wall["fork"] - wall["none"]), 2)
    row["peak of an empty test"] = memory
    return row


def main() -> None:
    """Print a Markdown table and, with ``--json``, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--held", type=int, nargs="+", default=[0, 150, 450])
    parser.add_argument("--cgroup", help="--isolate-cgroup for the isolated runs")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    options = [f"--isolate-cgroup={asked.cgroup}"] if asked.cgroup else []
    rows = [measure(held, asked.tests, asked.rounds, options) for held in asked.held]
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
