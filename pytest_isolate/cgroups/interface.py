"""What the rest of the package sees of cgroups: a worker's tree of groups, and the figures of one test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pytest_isolate.plan.plan import CgroupDir
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.spec import Limits


class Figures(NamedTuple):
    """Figures of one test's groups; ``None`` where the kernel gives none."""

    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None
    pids_peak: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    oom_kills: int = 0
    pids_denied: int = 0


class CgroupTree(Protocol):
    """The worker's group in every hierarchy that is used."""

    version: str  #: "v1", "v2", "hybrid", or "none" if no hierarchy is usable
    controllers: frozenset[str]  #: usable ones: memory swap cpu cpuset pids io freezer devices
    lacks: Mapping[str, tuple[str, str]]  #: each other one but devices -> (reason with object and errno, remedy)
    cleanup: tuple[str, ...]  #: directories, in rmdir order, that the builder removes if this process is killed

    def missing(self, limits: Limits) -> tuple[UnsupportedError, ...]:
        """One error for each limit asked for that can't be enforced; ``key`` is the contract's (``cpus``, ``io``)."""

    def dirs(self, limits: Limits, *, devices: Sequence[str] = (), degrade: bool = False) -> tuple[CgroupDir, ...]:
        """What to make per sandbox, one entry per hierarchy, limits in the order in which the kernel takes them.

        :param devices: rules for devices to allow beside the harmless ones, where v1 has rules: ``c 10:229 rw``.
        :param degrade: leave out what :meth:`missing` names.
        :raises UnsupportedError: the first of :meth:`missing`, unless degrading.
        """

    def read(self, name: str) -> Figures:
        """The figures of the test's group ``name``, after its processes have ended and before it is removed."""

    def freeze(self, name: str) -> bool:
        """Freeze all processes of the test's group; False, with none frozen, where that can't be had.

        On v1 the group has a freezer only if its ``Limits`` had a timeout.
        """

    def thaw(self, name: str) -> None:
        """Undo :meth:`freeze` (on v1 a frozen process can't die)."""

    def processes(self, name: str) -> tuple[int, ...]:
        """Pids (of this pid namespace) in the test's group."""

    def close(self) -> None:
        """Remove the worker's group, and the session's if this was its last worker; undo what was enabled or moved.

        May be called again, and after another process has removed the groups.
        """
