"""A plugin of pytest: writes down what its process and its builder hold after some tests, and in between.

ENDURANCE_FIGURES names the folder, where each process has a file of its own.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.helper_processes import builders_of

_FOLDER = os.environ.get("ENDURANCE_FIGURES", "")
_FIRST = 100  # by then all is loaded that a test needs
_EVERY = 5000
_LOOKS = 25
_MEGABYTE = 1e6


class _Count:
    tests = 0


def pytest_runtest_logfinish() -> None:
    """One more has ended; in a controller of xdist, which runs none, too."""
    _Count.tests += 1
    if _FOLDER and (_Count.tests == _FIRST or _Count.tests % _EVERY == 0):
        _write()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Before the builder ends."""
    if _FOLDER:
        _write()


def _write() -> None:
    with Path(_FOLDER, f"{os.getpid()}.json").open("a") as file:
        file.write(json.dumps({"tests": _Count.tests, "seconds": time.monotonic(), **_figures()}) + "\n")


def _figures() -> dict[str, float]:
    builders = builders_of(os.getpid())
    return {
        "descriptors of pytest": _descriptors(os.getpid()),
        "descriptors of the builder": sum(map(_descriptors, builders)),
        "threads of pytest": len(os.listdir("/proc/self/task")),
        "memory of pytest, MB": _resident(os.getpid()),
        "memory of the builder, MB": sum(map(_resident, builders)),
        "sandboxes that stand": _sandboxes(),
        "control groups": _groups(),
    }


def _descriptors(pid: int) -> int:
    """The least of some moments: there are more while a sandbox is made or taken down."""
    counts = []
    for _ in range(_LOOKS):
        with suppress(OSError):
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.02)
    return min(counts, default=0)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE, 1)


def _sandboxes() -> int:
    """Processes that are PID 1 of one of ours: a namespace of each kind lives as long as they do."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"\0for=%d\0" % os.getpid() in (entry / "cmdline").read_bytes() + b"\0":
                found += (entry / "comm").read_text() == "isolate-init\n"
    return found


def _groups() -> int:
    """Directories below those of this session, of all hierarchies; those of one sandbox come and go."""
    least = []
    for _ in range(3):
        tops = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if " cgroup" in line}
        own = (Path(folder) for top in tops for folder, _, _ in os.walk(top) if f"-{os.getpid()}-" in folder)
        least.append(sum(1 for _ in own))
    return min(least)
