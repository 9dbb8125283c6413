"""The discovery ladder: from what is mounted to a worker's groups, each step tried on the kernel, never guessed.

docs/decisions/cgroup-placement.md tells the steps and their order.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_isolate.cgroups import directory as group
from pytest_isolate.cgroups import systemd
from pytest_isolate.cgroups.branch import Announce, Tenant, to_nobody
from pytest_isolate.cgroups.delegation import CONTROLLERS, Delegation
from pytest_isolate.cgroups.disks import disks
from pytest_isolate.cgroups.names import PROC, SUPERVISOR
from pytest_isolate.cgroups.refusal import CONTAINER, MOUNT, NEEDED, SCOPE, Refusal, because
from pytest_isolate.cgroups.tree import Groups
from pytest_isolate.cgroups.v1 import V1
from pytest_isolate.cgroups.v2 import V2
from pytest_isolate.cgroups.where import V1_NAMES, Hierarchy, hierarchies
from pytest_isolate.errors import SpecError

_V2 = 2
_TRIES = 5
_OPTION = "--isolate-cgroup"
#: Moves the session into a delegated scope: session, v2 mount, proc. Raises Refusal.
StartScope = Callable[[str, str, Path], None]


def find(
    session: str,
    worker: str,
    given: str | None = None,
    *,
    proc: Path = PROC,
    start_scope: StartScope = systemd.start_scope,
    announce: Announce = to_nobody,
) -> Groups:
    """Make this worker's groups where the host allows it, try each controller there, sweep what dead sessions left.

    :param session: :func:`~pytest_isolate.cgroups.names.session_name` of the session's leading process; under xdist
        that is the controller.
    :param worker: name of the worker, unique in the session.
    :param given: ``--isolate-cgroup``: path from the cgroup root, on v1 below each controller's mount.
    :param announce: told all directories so far, before they are made, so that somebody removes them if we are killed.
    :return: a tree, in the worst case without controllers, whose ``lacks`` then say why.
    :raises SpecError: if no controller is usable at ``given``.
    """
    lacks: dict[str, Refusal] = {}
    branches: list[V1 | V2] = []
    announced: list[str] = []

    def add(directories: tuple[str, ...]) -> None:
        announced.extend(directories)
        announce(tuple(announced))

    tenant = Tenant(session=session, worker=worker, disks=disks(proc), proc=proc, announce=add)
    for hierarchy in hierarchies(proc):
        try:
            if hierarchy.version == _V2:
                branches.append(_v2(hierarchy, tenant, given, start_scope))
            else:
                branches.append(_v1(hierarchy, tenant, given))
        except Refusal as refusal:
            lacks = dict.fromkeys(_names(hierarchy), refusal) | lacks  # v1 comes first, and keeps its controllers
    with _somebody() as pid:
        for branch in branches:
            branch.probe(pid)
    for branch in branches:
        branch.end_probe()
        lacks = {**branch.lacks, **lacks} if branch.version == _V2 else {**lacks, **branch.lacks}
    for branch in [branch for branch in branches if not branch.enters]:
        branch.close()
        branches.remove(branch)
    tree = Groups(branches, {name: _sentences(lacks.get(name)) for name in NEEDED}, proc)
    if given is not None and not tree.controllers:
        tree.close()
        reasons = {refusal.reason: None for refusal in lacks.values()} or ["no cgroup hierarchy is mounted"]
        raise SpecError(f"{_OPTION}={given}", f"no controller is usable there: {'; '.join(reasons)}")
    for branch in branches:
        branch.sweep()
    return tree


def _v1(hierarchy: Hierarchy, tenant: Tenant, given: str | None) -> V1:
    base = _given(hierarchy, given) if given is not None else _own(hierarchy)
    branch = V1(base, hierarchy, tenant)
    branch.make()
    return branch


def _v2(hierarchy: Hierarchy, tenant: Tenant, given: str | None, start_scope: StartScope) -> V2:
    """In the given group; else in our own; else in a scope that systemd delegates."""
    if given is not None:
        branch = V2(Delegation(_given(hierarchy, given), tenant.proc), tenant)
        _make(branch, lambda: True)
        return branch
    try:
        return _v2_own(tenant)
    except Refusal as first:
        if not _has_controllers(hierarchy.mount):
            raise  # a scope would have none either
        try:
            start_scope(tenant.session, hierarchy.mount, tenant.proc)
        except Refusal as second:
            raise Refusal(f"{first.reason}; {second.reason}", first.remedy) from second
        return _v2_own(tenant)


def _v2_own(tenant: Tenant) -> V2:
    """Below the group that we are in, or that we were in before a session moved us to its leaf."""

    def base() -> str:
        own = _own(next(one for one in hierarchies(tenant.proc) if one.version == _V2))
        parent, _, name = own.rpartition("/")
        return parent if name == SUPERVISOR else own

    place = ""
    for _ in range(_TRIES):
        place = base()
        branch = V2(Delegation(place, tenant.proc), tenant)
        # Until we have the lock another session may have moved us, out or back.
        if _make(branch, lambda: base() == place):  # noqa: B023 - called before the next turn
            return branch
    raise Refusal(f"other sessions keep moving this process in and out of {place}", f"{SCOPE}.")


def _make(branch: V2, still: Callable[[], bool]) -> bool:
    try:
        with group.locked(branch.base):
            if not still():
                return False
            branch.make()
            return True
    except OSError as error:
        raise because(f"lock the group {branch.base}", error, _V2) from error


def _own(hierarchy: Hierarchy) -> str:
    if hierarchy.own is None:
        reason = f"this process's group {hierarchy.path} lies outside of what is mounted at {hierarchy.mount}"
        raise Refusal(reason, f"{CONTAINER}.")
    return hierarchy.own


def _given(hierarchy: Hierarchy, given: str) -> str:
    directory = f"{hierarchy.mount}/{given.strip('/')}".rstrip("/")
    if not Path(directory).is_dir():
        raise Refusal(f"{directory} does not exist", f"Make it, or correct {_OPTION}.")
    return directory


def _has_controllers(mount: str) -> bool:
    return not set(CONTROLLERS).isdisjoint(group.slurp_all(f"{mount}/cgroup.controllers").split())


def _names(hierarchy: Hierarchy) -> list[str]:
    """Our names of all that the hierarchy could have given."""
    if hierarchy.version == _V2:
        return [*CONTROLLERS, "swap", "freezer"]
    names = [name for name, kernel in V1_NAMES.items() if kernel in hierarchy.controllers]
    return [*names, "swap"] if "memory" in names else names


def _sentences(refusal: Refusal | None) -> tuple[str, str]:
    if refusal is None:
        reason = "no mounted cgroup hierarchy has this controller (see /proc/self/mountinfo and /proc/cgroups)"
        return reason, f"{MOUNT}."
    return refusal.reason, refusal.remedy


@contextmanager
def _somebody() -> Iterator[int]:
    """The pid of a process to enter groups with; it has ended afterwards, so that they can be removed."""
    with subprocess.Popen(["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as shell:
        yield shell.pid
        shell.kill()
