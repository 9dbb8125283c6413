"""A worker's groups over all hierarchies, as one :class:`~pytest_isolate.cgroups.interface.Tree`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_isolate.cgroups import directory as group
from pytest_isolate.cgroups.interface import Reading
from pytest_isolate.cgroups.refusal import NEEDED
from pytest_isolate.cgroups.v1 import V1
from pytest_isolate.cgroups.v2 import V2
from pytest_isolate.errors import UnsupportedError
from pytest_isolate.plan import CgroupDir
from pytest_isolate.spec import Limits
from pytest_isolate.values import core_list

#: Key of the contract -> controller.
_CONTROLLER = {"memory": "memory", "swap": "swap", "cpus": "cpu", "cpuset": "cpuset", "pids": "pids", "io": "io"}


class Groups:
    """The :class:`Tree` that ``find`` returns. Branches have been made and probed."""

    def __init__(
        self, branches: Sequence[V1 | V2], lacks: Mapping[str, tuple[str, str]], proc: Path = Path("/proc")
    ) -> None:
        versions = {branch.version for branch in branches}
        self.version = "hybrid" if len(versions) > 1 else f"v{versions.pop()}" if versions else "none"
        self.controllers = frozenset(name for branch in branches for name in branch.usable)
        self.lacks: Mapping[str, tuple[str, str]] = {
            name: lacks[name] for name in NEEDED if name not in self.controllers
        }
        self.cleanup = tuple(path for branch in branches for path in (branch.worker, branch.session))
        self._branches = tuple(branches)
        self._proc = proc

    def missing(self, limits: Limits) -> tuple[UnsupportedError, ...]:
        """See :class:`Tree`."""
        asked = {
            "memory": limits.memory is not None,
            "swap": limits.memory is not None and "memory" in self.controllers and self._swaps(),
            "cpus": limits.cpus is not None,
            "cpuset": limits.cpuset is not None,
            "pids": limits.pids is not None,
            "io": limits.io_read is not None or limits.io_write is not None,
        }
        errors = [
            UnsupportedError(key, *self.lacks[controller])
            for key, controller in _CONTROLLER.items()
            if asked[key] and controller not in self.controllers
        ]
        if limits.cpuset is not None and "cpuset" in self.controllers:
            errors += self._outside(limits.cpuset)
        return tuple(errors)

    def dirs(self, limits: Limits, *, degrade: bool = False) -> tuple[CgroupDir, ...]:
        """See :class:`Tree`."""
        missing = self.missing(limits)
        if missing and not degrade:
            raise missing[0]
        if any(error.key == "cpuset" for error in missing):
            limits = replace(limits, cpuset=None)  # the controller is there, but not these cores
        made = (branch.group(limits) for branch in self._branches)
        return tuple(directory for directory in made if directory is not None)

    def read(self, name: str) -> Reading:
        """See :class:`Tree`."""
        figures: dict[str, int | float] = {}
        for branch in self._branches:
            figures |= branch.read(name)
        return Reading(**figures)  # type: ignore[arg-type]  # the branches give ints for all but cpu_seconds

    def freeze(self, name: str) -> bool:
        """See :class:`Tree`."""
        return any(branch.freeze(name) for branch in self._branches if "freezer" in branch.usable)

    def thaw(self, name: str) -> None:
        """See :class:`Tree`."""
        for branch in self._branches:
            if "freezer" in branch.usable:
                branch.thaw(name)

    def processes(self, name: str) -> tuple[int, ...]:
        """See :class:`Tree`."""
        for branch in self._branches:
            if found := group.pids(f"{branch.worker}/{name}"):
                return found
        return ()

    def close(self) -> None:
        """See :class:`Tree`."""
        for branch in self._branches:
            branch.close()

    def _swaps(self) -> bool:
        """Whether there is any swap to escape to; where there is none, no cap on it is missed."""
        return len(group.slurp_all(f"{self._proc}/swaps").splitlines()) > 1  # the first is a heading

    def _outside(self, cpuset: str) -> list[UnsupportedError]:
        """v2 would silently give a test the cores of its parent if none of those asked for is among them."""
        allowed = next(branch.cores() for branch in self._branches if "cpuset" in branch.usable)
        surplus = cores(cpuset) - cores(allowed)
        if not surplus:
            return []
        shown = core_list(",".join(map(str, surplus)))
        return [UnsupportedError("cpuset", f"this machine or group has no core {shown}", f"Choose among {allowed}.")]


def cores(text: str) -> frozenset[int]:
    """The numbers in a list like ``0-2,5``, as cpuset(7) writes them."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
