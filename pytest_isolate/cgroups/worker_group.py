"""What the worker's groups of both versions have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.hierarchies import Version
from pytest_isolate.cgroups.refusals import Refusal, because
from pytest_isolate.cgroups.session_names import is_dead_session
from pytest_isolate.linux.block_devices import is_stacked
from pytest_isolate.linux.procfs import PROC

_PROBE = "probe"
_PERIOD = 100_000  # microseconds: the kernel's default
_LEAST_QUOTA = 1000  # microseconds; and the longest period is a second (kernel/sched/core.c, min_cfs_quota_period)
#: Takes directories in the order in which they can be removed.
Announce = Callable[[tuple[str, ...]], None]


def to_nobody(directories: tuple[str, ...]) -> None:
    """Announce to nobody, where this process removes them itself."""
    del directories


class Tenant(NamedTuple):
    """Whose groups they are."""

    session: str  #: name of the session's group
    worker: str  #: name of the worker's group in it
    disks: tuple[str, ...] = ()  #: MAJOR:MINOR of the disks to limit
    proc: Path = PROC
    announce: Announce = to_nobody  #: takes the directories that are about to be made


class WorkerGroup:
    """One worker's group below ``base`` in one hierarchy. What is usable there is known once it has been probed."""

    version: Version

    def __init__(self, base: str, tenant: Tenant) -> None:
        self.base = base
        self.session = f"{base}/{tenant.session}"
        self.worker = f"{self.session}/{tenant.worker}"
        self.usable: set[str] = set()
        self.lacks: dict[str, Refusal] = {}
        self.enters = False  #: whether processes can be put into a group here
        self.counts_anything = True  #: so that each test has a group of its own here
        self._probe = f"{self.worker}/{_PROBE}"
        self._disks: tuple[str, ...] = ()  # those that take a limit
        self._tenant = tenant
        self._stacked: dict[str, bool] = {}

    def announce(self) -> None:
        """Say which directories are about to be made."""
        self._tenant.announce((self._probe, self.worker, self.session))

    def end_probe(self) -> None:
        """Remove the group that was probed, whose process must have ended."""
        cgroupfs.rmdir(self._probe)

    def sweep(self) -> None:
        """Remove what dead sessions left in the same group."""
        for name in cgroupfs.children(self.base):
            if is_dead_session(name, self._tenant.proc):
                with suppress(OSError):  # another session of this moment sweeps, too; or it belongs to another user
                    cgroupfs.clear(f"{self.base}/{name}")

    def _try(self, name: str, *files: tuple[str, str]) -> None:
        """Write what a limit of controller ``name`` writes, and note whether the kernel took it."""
        if name in self.lacks:
            return
        for file, text in files:
            try:
                cgroupfs.put(f"{self._probe}/{file}", text)
            except OSError as error:
                self.lacks[name] = because(f"set {name} by {self._probe}/{file}", error, self.version)
                return
        self.usable.add(name)

    def _try_disks(self, file: str, text: str) -> None:
        """The same for each disk; some kinds of disk take no limit (ENODEV)."""
        if "io" in self.lacks:
            return
        why = f"no disk lies under the file systems mounted here ({self._tenant.proc}/self/mountinfo)"
        taken = []
        for disk in self._tenant.disks:
            try:
                cgroupfs.put(f"{self._probe}/{file}", f"{disk} {text}")
                taken.append(disk)
            except OSError as error:
                why = because(f"limit disk {disk} by {self._probe}/{file}", error, self.version).reason
        self._disks = tuple(taken)
        if taken:
            self.usable.add("io")
        else:
            self.lacks["io"] = Refusal(why, "Leave `io` out: no disk is in use here that takes a limit.")

    def _counts(self, disk: str) -> bool:
        """Whether to add up a disk's bytes: what goes through device mapper or loop is counted again below it."""
        if disk not in self._stacked:
            self._stacked[disk] = is_stacked(disk)
        return not self._stacked[disk]


def quota(cpus: float) -> tuple[int, int]:
    """CPU time and the period in which it may be used, in microseconds, within what the kernel takes."""
    period = _PERIOD if cpus * _PERIOD >= _LEAST_QUOTA else 10 * _PERIOD
    return max(_LEAST_QUOTA, round(cpus * period)), period
