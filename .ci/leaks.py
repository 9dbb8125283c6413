"""Runs many isolated tests, kills pytest at random moments, and shows that the machine is left as it was.

usage: leaks.py [TESTS]    with the Python that has the package; extra options of pytest in PYTEST_ADDOPTS
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS = 5
#: All objects of a slab that a core holds count as used (mm/slub.c, get_slabinfo), so this figure is no exact one:
#: a few slabs more are no leak, where each test makes a namespace.
NAMESPACES = "network namespaces (slab objects)"
SLACK = 64
PATIENCE = 20  # seconds: the kernel frees network namespaces, and the builder its groups, a moment later

TESTS = """
import os, subprocess, time
import pytest

NUMBER = int(os.environ["LEAKS_TESTS"])

@pytest.mark.isolate
@pytest.mark.parametrize("number", range(NUMBER))
def test_leaves_something(number):
    open("/tmp/left", "w").close()
    if number % 20 == 0:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
"""

#: Writes what pytest and its builder hold after some tests, and after all.
CONFTEST = """
import json, os, time

FIRST = 20
seen = []

def descriptors(pid):
    # The least of some moments: the builder has some more while it makes a sandbox or takes one down.
    counts = []
    for _ in range(25):
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.02)
    return min(counts)

def is_builder(pid):
    try:
        line = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
        return b"for=%d" % os.getpid() in line and open(f"/proc/{pid}/comm").read() == "builder\\n"
    except OSError:  # it has ended
        return False

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def figures():
    builders = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_builder(pid)]
    return {
        "descriptors of pytest": descriptors("self"),
        "descriptors of the builder": max(map(descriptors, builders), default=0),
        "memory of pytest, MB": round(resident() / 1e6),
    }

def pytest_runtest_logfinish(nodeid, location):
    seen.append(None)
    if len(seen) in (FIRST, int(os.environ["LEAKS_TESTS"])):
        with open(os.environ["LEAKS_FIGURES"], "a") as file:
            file.write(json.dumps(figures()) + "\\n")
"""


def machine(sessions: list[int], marker: str) -> dict[str, int]:
    """What can be left behind, counted; ``sessions`` are the pids of our runs, ``marker`` is in their environment."""
    found = {
        "processes": sum(_is_ours(entry, sessions, marker) for entry in Path("/proc").glob("[0-9]*")),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroups": sum(_names_a_session(name, sessions) for name in _cgroups()),
        "scratch directories": sum(
            _names_a_session(path.name, sessions)
            for folder in {"/tmp", "/var/tmp", tempfile.gettempdir()}
            for path in Path(folder).glob("pytest-isolate-*")
        ),
    }
    for line in _slabs():
        if line.startswith("net_namespace "):
            found[NAMESPACES] = int(line.split()[1])
    return found


def _is_ours(entry: Path, sessions: list[int], marker: str) -> bool:
    try:
        line = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        if line[0] == "isolate-builder":
            return int(line[2].removeprefix("for=")) in sessions
        return marker.encode() in (entry / "environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return False


def _cgroups() -> list[str]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tops = [fields[1] for fields in mounts if fields[2] in ("cgroup", "cgroup2")]
    names = (name for top in tops for _, inside, _ in os.walk(top) for name in inside)
    return [name for name in names if name.startswith("pytest-isolate-")]


def _names_a_session(name: str, sessions: list[int]) -> bool:
    return any(f"-{pid}-" in name for pid in sessions)


def _slabs() -> list[str]:
    try:
        return Path("/proc/slabinfo").read_text().splitlines()
    except OSError:  # only root may read it
        return []


def settled(before: dict[str, int], sessions: list[int], marker: str) -> dict[str, int]:
    """The figures once they are no more than before, or what they are when patience is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = machine(sessions, marker)
        if not _grown(before, now) or time.monotonic() > deadline:
            return now
        time.sleep(0.1)


def _grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name, number in before.items() if after[name] > number + (SLACK if name == NAMESPACES else 0)]


def show(title: str, before: dict[str, int], after: dict[str, int]) -> bool:
    """Print both; whether nothing has grown."""
    print(f"\n{title}")
    grown = _grown(before, after)
    for name, number in before.items():
        print(f"  {name:34} {number:>8} {after[name]:>8}  {'GREW' if name in grown else ''}".rstrip())
    return not grown


def main(tests: int) -> int:
    """Run all. :return: exit status."""
    marker, sessions = f"LEAKS_MARKER={os.getpid()}", []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_many.py").write_text(TESTS)
        Path(folder, "conftest.py").write_text(CONFTEST)
        figures = Path(folder, "figures")
        environment = dict(
            os.environ, LEAKS_TESTS=str(tests), LEAKS_FIGURES=str(figures), LEAKS_MARKER=str(os.getpid())
        )

        def pytest() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
            command += ["--isolate-usage=0", "-c", os.devnull, "--rootdir", folder, folder]
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
            sessions.append(process.pid)
            return process

        before = machine(sessions, marker)
        process = pytest()
        out = process.communicate()[0].decode()
        print(out.strip().rpartition("\n")[2])
        well = process.returncode == 0
        well &= show(f"{tests} isolated tests, before and after:", before, settled(before, sessions, marker))
        first, last = (json.loads(line) for line in figures.read_text().splitlines())
        memory = last.pop("memory of pytest, MB"), first.pop("memory of pytest, MB")
        well &= show("in that run, after 20 tests and after all:", first, last)
        print(f"  {'memory of pytest, MB':34} {memory[1]:>8} {memory[0]:>8}")
        for _ in range(KILLS):
            moment = random.uniform(0.3, 2.5)
            process = pytest()
            time.sleep(moment)
            process.kill()
            process.communicate()
            well &= show(f"SIGKILL of pytest after {moment:.2f} s:", before, settled(before, sessions, marker))
        environment["LEAKS_TESTS"] = "20"
        well &= pytest().wait() == 0
        well &= show("after a following run:", before, settled(before, sessions, marker))
    print("\nNothing is left." if well else "\nSomething is left, or a run failed.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
