"""The worker's group in one v1 hierarchy: what to write there, what to read. Documentation/admin-guide/cgroup-v1/."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.entrant import Entrant
from pytest_isolate.cgroups.hierarchies import V1_NAMES, Hierarchy, Version
from pytest_isolate.cgroups.refusals import because
from pytest_isolate.cgroups.worker_group import Tenant, WorkerGroup, quota
from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.plan.plan import CgroupDir
from pytest_isolate.spec.spec import Limits

_FREEZE_SECONDS = 0.5
_TRIES = 10
#: Devices that a test may use: null zero full random urandom, tty ptmx, pseudo-terminals; and overlayfs' whiteouts.
DEVICES = (
    "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", "c 0:0 m",
)  # fmt: skip


class V1(WorkerGroup):
    """One worker's group in one v1 hierarchy, which may have several controllers (``cpu,cpuacct``)."""

    version = Version.V1

    def __init__(self, base: str, hierarchy: Hierarchy, tenant: Tenant) -> None:
        super().__init__(base, tenant)
        self._mount = hierarchy.mount
        self._names = hierarchy.controllers
        self.counts_anything = bool(self._names & {"memory", "cpuacct", "pids", "blkio"})
        self._devices: list[str] = []
        self._shared: dict[tuple[str, ...], str] = {}  # groups by their rules

    def make(self) -> None:
        """Make the session's and the worker's group. :raises Refusal: if that can't be."""
        self.announce()
        for attempt in range(_TRIES):
            try:
                for directory in (self.session, self.worker):
                    with suppress(FileExistsError):
                        calls.mkdir(directory, 0o755)
                    self._prepare(directory)
            except FileNotFoundError as error:
                # Another worker of the session has just closed and removed the session's group.
                if attempt == _TRIES - 1 or not files.is_directory(self.base):
                    raise because(f"make the group {self.worker}", error, self.version) from error
            except OSError as error:
                cgroupfs.rmdir(self.worker)
                cgroupfs.rmdir(self.session)
                raise because(f"make the group {self.worker}", error, self.version) from error
            else:
                return

    def probe(self, entrant: Entrant) -> None:
        """Try each controller on a group like a test's, and to enter it."""
        try:
            calls.mkdir(self._probe, 0o755)
            if "cpuset" in self._names:
                self._fill(self._probe)
            entrant.enter(self._probe, "tasks")
        except OSError as error:
            self.lacks |= dict.fromkeys(self._ours(), because(f"enter {self._probe}", error, self.version))
            return
        self.enters = True
        trials = {
            "memory": [("memory.limit_in_bytes", str(1 << 40))],
            "swap": [("memory.memsw.limit_in_bytes", str(1 << 40))],  # refused while below the former
            "cpu": [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1")],
            "cpuset": [],
            "pids": [("pids.max", "1000")],
            "freezer": [("freezer.state", "THAWED")],
            "devices": [("devices.deny", "a")],
        }
        for name, tried in trials.items():
            if name in self._ours():
                self._try(name, *tried)
        if "devices" in self.usable:
            self._try_devices()
        if "blkio" in self._names:
            self._try_disks("blkio.throttle.read_bps_device", "0")  # 0: no limit

    def cores(self) -> str:
        """The cores that a test may be given, as ``0-1``."""
        return cgroupfs.slurp(f"{self.worker}/cpuset.cpus").decode().strip()

    def plan_dir(self, limits: Limits, devices: Sequence[str] = (), *, share: bool = False) -> CgroupDir | None:
        """What to make for one test, or None if this hierarchy neither limits nor counts anything of it.

        :param devices: rules beside those for the harmless ones.
        :param share: let tests be in one group that differ in nothing here; they are told apart by another hierarchy.
        """
        wanted: set[str] = set()
        if limits.timeout is not None:
            wanted.add("freezer")
        if limits.cpuset is not None:
            wanted.add("cpuset")
        files = limit_files(limits, self.usable, self._disks, self._ceiling() if "cpu" in self.usable else None)
        alone = bool(files or self.counts_anything or wanted & self.usable)
        if not alone and "devices" not in self.usable:
            return None
        rules = (*self._devices, *devices)
        if share and not alone and "cpuset" not in self._names and (group := self._share(rules)):
            return CgroupDir(parent=group, attach="tasks", shared=True)
        files += self._cpuset_files(limits)
        if "devices" in self.usable:
            files += _rule_files(rules)
        # A test is a single thread when it enters, and may move itself without the lock that all forks and ends of
        # processes take, and cgroup.procs waits for (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
        return CgroupDir(parent=self.worker, files=tuple(files), attach="tasks")

    def plan_whole_dir(self, limits: Limits) -> CgroupDir:
        """The same for a whole session: groups of its tests are made below. It may use all devices that we may."""
        files = limit_files(limits, self.usable, self._disks, self._ceiling() if "cpu" in self.usable else None)
        return CgroupDir(parent=self.worker, files=(*files, *self._cpuset_files(limits)), attach="tasks")

    def _cpuset_files(self, limits: Limits) -> list[tuple[str, str]]:
        """A group without cores and memory nodes can't be entered."""
        if "cpuset" not in self._names:
            return []
        cores = limits.cpuset if limits.cpuset is not None else self.cores()
        return [("cpuset.cpus", cores), ("cpuset.mems", cgroupfs.get(f"{self.worker}/cpuset.mems"))]

    def read(self, name: str) -> dict[str, int | float]:
        """Figures of ``Figures`` that this hierarchy gives."""
        if not self.counts_anything:
            return {}
        path = f"{self.worker}/{name}"
        figures: dict[str, int | float | None] = {}
        if "memory" in self._names:
            figures["memory_peak_bytes"] = cgroupfs.number(cgroupfs.slurp(f"{path}/memory.max_usage_in_bytes"))
            figures["oom_kills"] = cgroupfs.entry(
                cgroupfs.slurp(f"{path}/memory.oom_control"), b"oom_kill"
            )  # from 4.13 on
        if "cpuacct" in self._names:
            nanoseconds = cgroupfs.number(cgroupfs.slurp(f"{path}/cpuacct.usage"))
            figures["cpu_seconds"] = None if nanoseconds is None else nanoseconds / 1e9
        if "pids" in self._names:
            figures["pids_peak"] = cgroupfs.number(cgroupfs.slurp(f"{path}/pids.peak"))
            figures["pids_denied"] = cgroupfs.entry(cgroupfs.slurp(f"{path}/pids.events"), b"max")
        if "blkio" in self._names:
            content = cgroupfs.slurp(f"{path}/blkio.throttle.io_service_bytes_recursive")
            content = content or cgroupfs.slurp(f"{path}/blkio.throttle.io_service_bytes")
            if content:
                figures["read_bytes"], figures["write_bytes"] = self._sum_bytes(content)
        return {key: value for key, value in figures.items() if value is not None}

    def freeze(self, name: str) -> bool:
        """freezer.state reads FREEZING until all stand still; what was forked meanwhile has to be asked again."""
        path = f"{self.worker}/{name}/freezer.state"
        deadline = calls.monotonic() + _FREEZE_SECONDS
        try:
            cgroupfs.put(path, "FROZEN")
            while cgroupfs.slurp(path).strip() != b"FROZEN":
                if calls.monotonic() > deadline:
                    self.thaw(name)
                    return False
                calls.sleep(0.001)
                cgroupfs.put(path, "FROZEN")
        except OSError:
            return False
        return True

    def thaw(self, name: str) -> None:
        """Undo :meth:`freeze`."""
        with suppress(OSError):
            cgroupfs.put(f"{self.worker}/{name}/freezer.state", "THAWED")

    def close(self) -> None:
        """Remove our groups."""
        with suppress(OSError):
            cgroupfs.clear(self.worker)
        cgroupfs.rmdir(self.session)

    def _ours(self) -> set[str]:
        """Our names of what this hierarchy controls."""
        ours = {name for name, kernel in V1_NAMES.items() if kernel in self._names}
        return ours | ({"swap"} if "memory" in ours else set())

    def _prepare(self, directory: str) -> None:
        if "cpuset" in self._names:
            self._fill(directory)
        if "memory" in self._names:
            # Before 5.11 a group's limit held for its children only with this; later it is always on.
            with suppress(OSError):
                cgroupfs.put(f"{directory}/memory.use_hierarchy", "1")

    def _fill(self, directory: str) -> None:
        """A new cpuset is empty and can't be entered: give it what its parent has."""
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not cgroupfs.get(f"{directory}/{file}") and directory != self._mount:
                parent = directory.rpartition("/")[0]
                self._fill(parent)
                cgroupfs.put(f"{directory}/{file}", cgroupfs.get(f"{parent}/{file}"))

    def _ceiling(self) -> float | None:
        """The least quota above the tests' groups, in cores: v1 refuses a greater one below it (EINVAL)."""
        least, directory = None, self.worker
        while len(directory) >= len(self._mount):
            allowed = cgroupfs.slurp(f"{directory}/cpu.cfs_quota_us")
            period = cgroupfs.number(cgroupfs.slurp(f"{directory}/cpu.cfs_period_us"))
            microseconds = cgroupfs.number(allowed)  # -1, for none, is no number here
            if microseconds is not None and period:
                least = min(microseconds / period, least or float("inf"))
            directory = directory.rpartition("/")[0]
        return least

    def _share(self, rules: tuple[str, ...]) -> str | None:
        """The group of all tests that may use the same devices; None if it can't be made.

        To make one for each test, with ten writes, was a twentieth of what a sandbox costs.
        """
        if rules not in self._shared:
            group = f"{self.worker}/devices{len(self._shared)}"
            try:
                calls.mkdir(group, 0o755)
                for file, rule in _rule_files(rules):
                    cgroupfs.put(f"{group}/{file}", rule)
            except OSError:  # each test's own group will fail in the same way, and say so
                cgroupfs.rmdir(group)
                return None
            self._shared[rules] = group
        return self._shared[rules]

    def _try_devices(self) -> None:
        for rule in DEVICES:
            # A container's own group may refuse it; the test then does without the device, as the container does.
            with suppress(OSError):
                cgroupfs.put(f"{self._probe}/devices.allow", rule)
                self._devices.append(rule)

    def _sum_bytes(self, content: bytes) -> tuple[int, int]:
        """Bytes read and written."""
        sums = {"Read": 0, "Write": 0}
        for line in content.decode().splitlines():
            match line.split():
                case [disk, ("Read" | "Write") as direction, count] if self._counts(disk):
                    sums[direction] += int(count)
                case _:  # Sync, Async, Discard, Total
                    pass
        return sums["Read"], sums["Write"]


def _rule_files(rules: Sequence[str]) -> list[tuple[str, str]]:
    return [("devices.deny", "a"), *(("devices.allow", rule) for rule in rules)]


def limit_files(
    limits: Limits, usable: set[str], disks: tuple[str, ...], ceiling: float | None = None
) -> list[tuple[str, str]]:
    """Files and contents for ``limits``, those of ``usable`` controllers except cpuset.

    :param ceiling: the quota, in cores, of the groups above.
    """
    files: list[tuple[str, str]] = []
    if limits.memory is not None and "memory" in usable:
        files.append(("memory.limit_in_bytes", str(limits.memory)))
        if "swap" in usable:  # the sum of both, never below the former: so it comes second
            files.append(("memory.memsw.limit_in_bytes", str(limits.memory + limits.swap)))
    if limits.cpus is not None and "cpu" in usable and (ceiling is None or limits.cpus < ceiling):
        time_in, period = quota(limits.cpus)
        files += [("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(time_in))]
    if limits.pids is not None and "pids" in usable:
        files.append(("pids.max", str(limits.pids)))
    if "io" in usable:
        for direction, rate in (("read", limits.io_read), ("write", limits.io_write)):
            if rate is not None:
                files += [(f"blkio.throttle.{direction}_bps_device", f"{disk} {rate}") for disk in disks]
    return files
