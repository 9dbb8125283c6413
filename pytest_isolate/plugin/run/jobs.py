"""How many sandboxes run at a time in this process: ``--isolate-jobs``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress

from pytest_isolate.linux import files
from pytest_isolate.spec.values import JOBS_MOST

_CGROUPS = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"
#: Bytes of memory that a test may be expected to take. Of cores there may be many where memory is scarce, as in a
#: container that has a limit, and nobody has asked for that many tests at a time.
_MEMORY_EACH = 512 << 20


def count(asked: int | None, workers: int) -> int:
    """How many; at least one.

    :param asked: None: as many as there are cores, and memory for, shared by xdist's ``workers``.
    """
    return max(1, min(_cores(), _memory() // _MEMORY_EACH, JOBS_MOST) // workers) if asked is None else asked


def _cores() -> int:
    """Cores that this process may use: by its affinity, and by the CPU quotas of the cgroups that it is in."""
    cores = len(os.sched_getaffinity(0))
    return min([cores, *(max(1, math.floor(quota)) for folder in _folders("cpu") for quota in _quota(folder))])


def _memory() -> int:
    """Bytes of memory that there are: by the machine, and by the limits of the cgroups that this process is in."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for folder in _folders("memory") for limit in _limit(folder))])


def _folders(controller: str) -> Iterator[str]:
    """The cgroups that have a say about it, from this process' own upwards; none where that cannot be read."""
    with suppress(OSError, ValueError):
        for line in filter(None, files.read_text(_OWN).split("\n")):
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                mount = f"{_CGROUPS}/{controller}" if controllers else _CGROUPS
                yield from (f"{mount}{folder}" for folder in _upwards(path))


def _upwards(path: str) -> Iterator[str]:
    """``path`` and the folders that it is in; "" is the root."""
    path = path.rstrip("/")
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _quota(folder: str) -> Iterator[float]:
    """In cores (cgroup-v2.rst: cpu.max; sched-bwc.rst: cpu.cfs_quota_us). "max" is none, as -1 is."""
    with suppress(OSError, ValueError):
        quota, period = files.read_text(f"{folder}/cpu.max").split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (files.read_text(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)


def _limit(folder: str) -> Iterator[int]:
    """In bytes (cgroup-v2.rst: memory.max, where "max" is none; cgroup-v1/memory.rst: memory.limit_in_bytes)."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            yield int(files.read_text(f"{folder}/{name}"))
