"""How many sandboxes run at a time in this process: ``--isolate-jobs``."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress

from pytest_isolate.linux import files

_CGROUPS = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"


def count(asked: int | None, workers: int) -> int:
    """How many; at least one. :param asked: None: as many as there are cores, shared by xdist's ``workers``."""
    return max(1, _cores() // workers) if asked is None else asked


def _cores() -> int:
    """Cores that this process may use: by its affinity, and by the CPU quotas of the cgroups that it is in."""
    cores = len(os.sched_getaffinity(0))
    return min([cores, *(max(1, math.floor(quota)) for quota in _quotas())])


def _quotas() -> Iterator[float]:
    """In cores (cgroup-v2.rst: cpu.max; sched-bwc.rst: cpu.cfs_quota_us). Where they cannot be read, there are none."""
    with suppress(OSError, ValueError):
        for line in filter(None, files.read_text(_OWN).split("\n")):
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                mount = f"{_CGROUPS}/cpu" if controllers else _CGROUPS
                for folder in _upwards(path):
                    yield from _quota(f"{mount}{folder}")


def _upwards(path: str) -> Iterator[str]:
    """``path`` and the folders that it is in; "" is the root."""
    path = path.rstrip("/")
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _quota(folder: str) -> Iterator[float]:
    with suppress(OSError, ValueError):
        quota, period = files.read_text(f"{folder}/cpu.max").split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (files.read_text(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)
