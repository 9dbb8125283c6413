"""The worker's group in the v2 hierarchy: what to write there, what to read.

The files are described in the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.delegation import CONTROLLERS, Delegation
from pytest_isolate.cgroups.entrant import Entrant
from pytest_isolate.cgroups.hierarchies import Version
from pytest_isolate.cgroups.refusals import because
from pytest_isolate.cgroups.worker_group import Tenant, WorkerGroup, quota
from pytest_isolate.linux.calls import calls
from pytest_isolate.plan.plan import CgroupDir
from pytest_isolate.spec.spec import Limits

_FREEZE_SECONDS = 0.5


class V2(WorkerGroup):
    """One worker's group in the v2 hierarchy."""

    version = Version.V2

    def __init__(self, delegation: Delegation, tenant: Tenant) -> None:
        super().__init__(delegation.base, tenant)
        self._delegation = delegation
        self._closed = False

    def make(self) -> None:
        """Make the session's and the worker's group, with all controllers on. Call under the lock of ``base``.

        :raises Refusal: if none can be made.
        """
        self.announce()
        self.lacks |= self._delegation.enter()
        try:
            for directory in (self.session, self.worker):
                with suppress(FileExistsError):
                    calls.mkdir(directory, 0o755)
                self._hand_down(directory)
        except OSError as error:
            cgroupfs.rmdir(self.session)
            self._delegation.leave()
            raise because(f"make the group {self.worker}", error, self.version) from error

    def probe(self, entrant: Entrant) -> None:
        """Try each controller on a group like a test's, and to enter it."""
        try:
            calls.mkdir(self._probe, 0o755)
            entrant.enter(self._probe, "cgroup.procs")
        except OSError as error:
            refusal = because(f"enter {self._probe}", error, self.version)
            self.lacks |= dict.fromkeys((*CONTROLLERS, "swap", "freezer"), refusal)
            return
        self.enters = True
        if "memory" in self.lacks:
            self.lacks["swap"] = self.lacks["memory"]
        self._try("memory", ("memory.max", str(1 << 40)))
        self._try("swap", ("memory.swap.max", "0"))
        self._try("cpu", ("cpu.max", "max 100000"))
        self._try("pids", ("pids.max", "1000"))
        self._try("cpuset", ("cpuset.cpus", self.cores()))
        self._try("freezer", ("cgroup.freeze", "0"))
        self._try_disks("io.max", "rbps=max")

    def cores(self) -> str:
        """The cores that a test may be given, as ``0-1``."""
        return cgroupfs.slurp(f"{self.worker}/cpuset.cpus.effective").decode().strip()

    def plan_dir(self, limits: Limits, devices: Sequence[str] = (), *, share: bool = False) -> CgroupDir:
        """What to make for one test; without a limit still for its figures. There are no rules for devices here."""
        del devices, share
        return CgroupDir(parent=self.worker, files=tuple(limit_files(limits, self.usable, self._disks)))

    def plan_whole_dir(self, limits: Limits) -> CgroupDir:
        """The same for a whole session."""
        return self.plan_dir(limits)

    def read(self, name: str) -> dict[str, int | float]:
        """Figures of ``Figures`` that the kernel gives: memory.peak from 5.19 on, pids.peak from 6.1 on."""
        path = f"{self.worker}/{name}"
        figures: dict[str, int | float | None] = {
            "memory_peak_bytes": cgroupfs.number(cgroupfs.slurp(f"{path}/memory.peak")),
            "pids_peak": cgroupfs.number(cgroupfs.slurp(f"{path}/pids.peak")),
            "oom_kills": cgroupfs.entry(cgroupfs.slurp(f"{path}/memory.events"), b"oom_kill"),
            "pids_denied": cgroupfs.entry(cgroupfs.slurp(f"{path}/pids.events"), b"max"),
        }
        microseconds = cgroupfs.entry(cgroupfs.slurp(f"{path}/cpu.stat"), b"usage_usec")
        if microseconds is not None:
            figures["cpu_seconds"] = microseconds / 1e6
        if "io" in self.usable:
            figures["read_bytes"], figures["write_bytes"] = self._sum_bytes(cgroupfs.slurp(f"{path}/io.stat"))
        return {key: value for key, value in figures.items() if value is not None}

    def freeze(self, name: str) -> bool:
        """cgroup.freeze only asks (5.2); cgroup.events tells when the last process stands still."""
        path = f"{self.worker}/{name}"
        try:
            cgroupfs.put(f"{path}/cgroup.freeze", "1")
        except OSError:
            return False
        deadline = calls.monotonic() + _FREEZE_SECONDS
        while cgroupfs.entry(cgroupfs.slurp(f"{path}/cgroup.events"), b"frozen") != 1:
            if calls.monotonic() > deadline:
                self.thaw(name)
                return False
            calls.sleep(0.001)
        return True

    def thaw(self, name: str) -> None:
        with suppress(OSError):
            cgroupfs.put(f"{self.worker}/{name}/cgroup.freeze", "0")

    def close(self) -> None:
        """Remove our groups, and give the user's group back as it was if no session is left in it."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError), cgroupfs.lock(self.base):
            with suppress(OSError):
                cgroupfs.clear(self.worker)
            cgroupfs.rmdir(self.session)
            self._delegation.leave()

    def _hand_down(self, directory: str) -> None:
        for name in CONTROLLERS:
            if name not in self.lacks:
                try:
                    cgroupfs.put(f"{directory}/cgroup.subtree_control", f"+{name}")
                except OSError as error:
                    self.lacks[name] = because(
                        f"enable {name} in {directory}/cgroup.subtree_control", error, self.version
                    )

    def _sum_bytes(self, content: bytes) -> tuple[int, int]:
        """Bytes read and written. A group that never met a disk has an empty file."""
        read = written = 0
        for line in content.decode().splitlines():
            disk, *pairs = line.split()
            if self._counts(disk):
                figures = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                read += int(figures.get("rbytes", 0))
                written += int(figures.get("wbytes", 0))
        return read, written


def limit_files(limits: Limits, usable: Iterable[str], disks: Iterable[str]) -> list[tuple[str, str]]:
    """Files and contents for ``limits``, those that ``usable`` controllers have."""
    usable = set(usable)
    files: list[tuple[str, str]] = []
    if limits.memory is not None and "memory" in usable:
        files.append(("memory.max", str(limits.memory)))
        if "swap" in usable:
            files.append(("memory.swap.max", str(limits.swap)))
        # All or nothing: a test that lost one of its processes to the OOM killer says nothing any more.
        files.append(("?memory.oom.group", "1"))
    if limits.cpus is not None and "cpu" in usable:
        files.append(("cpu.max", "{} {}".format(*quota(limits.cpus))))
    if limits.cpuset is not None and "cpuset" in usable:
        files.append(("cpuset.cpus", limits.cpuset))
    if limits.pids is not None and "pids" in usable:
        files.append(("pids.max", str(limits.pids)))
    if "io" in usable:
        pairs = (("rbps", limits.io_read), ("wbps", limits.io_write))
        text = " ".join(f"{key}={value}" for key, value in pairs if value is not None)
        files += [("io.max", f"{disk} {text}") for disk in disks if text]
    return files
