"""A worker's groups over all hierarchies, as one :class:`~pytest_isolate.cgroups.interface.CgroupTree`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.interface import Figures
from pytest_isolate.cgroups.refusals import NEEDED
from pytest_isolate.cgroups.v1 import V1
from pytest_isolate.cgroups.v2 import V2
from pytest_isolate.plan.plan import CgroupDir
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.keys import KEYS, Key, is_cap_set
from pytest_isolate.spec.lists import core_list, cores
from pytest_isolate.spec.spec import Limits


class WorkerTree:
    """The :class:`CgroupTree` that ``find`` returns. Its groups have been made and probed."""

    def __init__(
        self, groups: Sequence[V1 | V2], lacks: Mapping[str, tuple[str, str]], proc: Path = Path("/proc")
    ) -> None:
        versions = {group.version for group in groups}
        self.version = "hybrid" if len(versions) > 1 else f"v{versions.pop().value}" if versions else "none"
        self.controllers = frozenset(name for group in groups for name in group.usable)
        self.lacks: Mapping[str, tuple[str, str]] = {
            name: lacks[name] for name in NEEDED if name not in self.controllers
        }
        self.cleanup = tuple(path for group in groups for path in (group.worker, group.session))
        self._groups = tuple(groups)
        self._proc = proc

    def missing(self, limits: Limits) -> tuple[UnsupportedError, ...]:
        """See :class:`CgroupTree`."""
        errors = [
            UnsupportedError(key.name, *self.lacks[key.controller])
            for key in KEYS.values()
            if key.controller and key.controller not in self.controllers and self._matters(key, limits)
        ]
        if limits.cpuset is not None and "cpuset" in self.controllers:
            errors += self._outside(limits.cpuset)
        return tuple(errors)

    def dirs(self, limits: Limits, *, devices: Sequence[str] = (), degrade: bool = False) -> tuple[CgroupDir, ...]:
        """See :class:`CgroupTree`."""
        missing = self.missing(limits)
        if missing and not degrade:
            raise missing[0]
        if any(error.key == "cpuset" for error in missing):
            limits = replace(limits, cpuset=None)  # the controller is there, but not these cores
        counted = any(group.counts_anything for group in self._groups)
        made = (group.plan_dir(limits, devices, share=counted) for group in self._groups)
        return tuple(directory for directory in made if directory is not None)

    def whole_dirs(self, limits: Limits) -> tuple[CgroupDir, ...]:
        """The same for a whole session, below whose groups are those of its tests: one in each hierarchy.

        :raises UnsupportedError: a limit cannot be enforced.
        """
        for lack in self.missing(limits):
            raise lack
        return tuple(group.plan_whole_dir(limits) for group in self._groups)

    def read(self, name: str) -> Figures:
        """See :class:`CgroupTree`."""
        figures: dict[str, int | float] = {}
        for group in self._groups:
            figures |= group.read(name)
        return Figures(**figures)  # type: ignore[arg-type]  # the groups give ints for all but cpu_seconds

    def freeze(self, name: str) -> bool:
        """See :class:`CgroupTree`."""
        return any(group.freeze(name) for group in self._groups if "freezer" in group.usable)

    def thaw(self, name: str) -> None:
        """See :class:`CgroupTree`."""
        for group in self._groups:
            if "freezer" in group.usable:
                group.thaw(name)

    def processes(self, name: str) -> tuple[int, ...]:
        """See :class:`CgroupTree`."""
        for group in self._groups:
            if found := cgroupfs.pids(f"{group.worker}/{name}"):
                return found
        return ()

    def close(self) -> None:
        """See :class:`CgroupTree`."""
        for group in self._groups:
            group.close()

    def _matters(self, key: Key, limits: Limits) -> bool:
        """Whether a cap was asked for, and there is something to be capped."""
        return is_cap_set(key, limits) and (key.name != "swap" or ("memory" in self.controllers and self._swaps()))

    def _swaps(self) -> bool:
        """Whether there is any swap to escape to; where there is none, no cap on it is missed."""
        return len(cgroupfs.slurp_all(f"{self._proc}/swaps").splitlines()) > 1  # the first is a heading

    def _outside(self, cpuset: str) -> list[UnsupportedError]:
        """v2 would silently give a test the cores of its parent if none of those asked for is among them."""
        allowed = next(group.cores() for group in self._groups if "cpuset" in group.usable)
        surplus = cores(cpuset) - cores(allowed)
        if not surplus:
            return []
        shown = core_list(",".join(map(str, surplus)))
        return [UnsupportedError("cpuset", f"this machine or group has no core {shown}", f"Choose among {allowed}.")]
