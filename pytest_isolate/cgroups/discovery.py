"""The discovery ladder: from what is mounted to a worker's groups, each step tried on the kernel, never guessed.

docs/decisions/cgroup-placement.md tells the steps and their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from pytest_isolate.cgroups import cgroupfs, entrant, systemd
from pytest_isolate.cgroups.delegation import CONTROLLERS, Delegation
from pytest_isolate.cgroups.hierarchies import V1_NAMES, Hierarchy, Version, hierarchies
from pytest_isolate.cgroups.refusals import CONTAINER, MOUNT, NEEDED, SCOPE, Refusal, because
from pytest_isolate.cgroups.session_names import SUPERVISOR
from pytest_isolate.cgroups.v1 import V1
from pytest_isolate.cgroups.v2 import V2
from pytest_isolate.cgroups.worker_group import Announce, Tenant, to_nobody
from pytest_isolate.cgroups.worker_tree import WorkerTree
from pytest_isolate.linux import files
from pytest_isolate.linux.block_devices import disks
from pytest_isolate.linux.procfs import PROC
from pytest_isolate.spec.errors import SpecError

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
) -> WorkerTree:
    """Make this worker's groups where the host allows it, try each controller there, sweep what dead sessions left.

    :param session: :func:`~pytest_isolate.cgroups.session_names.session_name` of the session's leading process; under
        xdist that is the controller.
    :param worker: name of the worker, unique in the session.
    :param given: ``--isolate-cgroup``: path from the cgroup root, on v1 below each controller's mount.
    :param announce: takes all directories so far, before they are made, so that the builder can remove them if this
        process is killed.
    :return: a tree, in the worst case without controllers, whose ``lacks`` then say why.
    :raises SpecError: if no controller is usable at ``given``.
    """
    announced: list[str] = []

    def add(directories: tuple[str, ...]) -> None:
        announced.extend(directories)
        announce(tuple(announced))

    tenant = Tenant(session=session, worker=worker, disks=disks(proc), proc=proc, announce=add)
    reasons = Reasons()
    # Whatever ends this early, such as the end of the builder that is told of each, nobody else knows of them all.
    with ExitStack() as undo:
        groups = list(_place_and_probe(hierarchies(proc), tenant, given, start_scope, reasons, undo=undo))
        tree = WorkerTree(groups, {name: reasons.sentences(name) for name in NEEDED}, proc)
        if given is not None and not tree.controllers:
            raise SpecError(f"{_OPTION}={given}", f"no controller is usable there: {'; '.join(reasons.all())}")
        for group in groups:
            group.sweep()
        undo.pop_all()
    return tree


class Reasons:
    """Why controllers are not usable: of several reasons for one controller, the first."""

    def __init__(self) -> None:
        self._first: dict[str, Refusal] = {}

    def add(self, name: str, refusal: Refusal) -> None:
        """Add a reason for the controller ``name``."""
        self._first.setdefault(name, refusal)

    def all(self) -> list[str]:
        """Each reason once, without its controllers."""
        return list(dict.fromkeys(refusal.reason for refusal in self._first.values())) or [
            "no cgroup hierarchy is mounted"
        ]

    def sentences(self, name: str) -> tuple[str, str]:
        """The reason for one controller, and the remedy."""
        if name in self._first:
            return self._first[name].reason, self._first[name].remedy
        reason = "no mounted cgroup hierarchy has this controller (see /proc/self/mountinfo and /proc/cgroups)"
        return reason, f"{MOUNT}."


def _place_and_probe(
    mounted: Iterable[Hierarchy],
    tenant: Tenant,
    given: str | None,
    start_scope: StartScope,
    reasons: Reasons,
    *,
    undo: ExitStack,
) -> Iterator[V1 | V2]:
    """The worker's group in each hierarchy where processes can enter it, after its controllers have been tried.

    :param mounted: v1 first, which keeps its controllers, so that its reasons come before those of v2.
    :param undo: takes what removes each group that was made.
    """
    placed: list[tuple[Hierarchy, V1 | V2 | Refusal]] = []
    for hierarchy in mounted:
        try:
            group = _place(hierarchy, tenant, given, start_scope)
            undo.callback(group.close)
            placed.append((hierarchy, group))
        except Refusal as refusal:
            placed.append((hierarchy, refusal))
    groups = [group for _, group in placed if not isinstance(group, Refusal)]
    with entrant.start() as process:
        for group in groups:
            group.probe(process)
    for hierarchy, outcome in placed:
        lacks = dict.fromkeys(_names(hierarchy), outcome) if isinstance(outcome, Refusal) else outcome.lacks
        for name, reason in lacks.items():
            reasons.add(name, reason)
    for group in groups:
        group.end_probe()
        if group.enters:
            yield group
        else:
            group.close()


def _place(hierarchy: Hierarchy, tenant: Tenant, given: str | None, start_scope: StartScope) -> V1 | V2:
    """Make the worker's group in the first place that takes it. :raises Refusal: there is none (step 5)."""
    if given is not None:
        return _in_given(hierarchy, tenant, given)
    if hierarchy.version is Version.V1:
        return _in_own_v1(hierarchy, tenant)
    try:
        return _in_own_v2(tenant)
    except Refusal as refusal:
        return _in_scope(hierarchy, tenant, start_scope, refusal)


def _in_given(hierarchy: Hierarchy, tenant: Tenant, given: str) -> V1 | V2:
    """Step 1: in the group that the user names."""
    base = f"{hierarchy.mount}/{given.strip('/')}".rstrip("/")
    if not files.is_directory(base):
        raise Refusal(f"{base} does not exist", f"Make it, or correct {_OPTION}.")
    if hierarchy.version is Version.V1:
        return _make_v1(base, hierarchy, tenant)
    group = V2(Delegation(base, tenant.proc), tenant)
    _make_v2(group, lambda: True)
    return group


def _in_own_v1(hierarchy: Hierarchy, tenant: Tenant) -> V1:
    """Step 2 on v1: below the group that we are in."""
    return _make_v1(_own(hierarchy), hierarchy, tenant)


def _in_own_v2(tenant: Tenant) -> V2:
    """Steps 2 and 3 on v2: below the group that we are in, or that we were in before a session moved us to its leaf.

    :class:`Delegation` moves its processes if it has some.
    """

    def base() -> str:
        own = _own(next(one for one in hierarchies(tenant.proc) if one.version is Version.V2))
        parent, _, name = own.rpartition("/")
        return parent if name == SUPERVISOR else own

    directory = ""
    for _ in range(_TRIES):
        directory = base()
        group = V2(Delegation(directory, tenant.proc), tenant)
        # Until we have the lock another session may have moved us, out or back.
        if _make_v2(group, lambda: base() == directory):  # noqa: B023 - called before the next turn
            return group
    raise Refusal(f"other sessions keep moving this process in and out of {directory}", f"{SCOPE}.")


def _in_scope(hierarchy: Hierarchy, tenant: Tenant, start_scope: StartScope, first: Refusal) -> V2:
    """Step 4: in a scope that systemd delegates. :param first: why our own group is none."""
    if not _has_controllers(hierarchy.mount):
        raise first  # a scope would have none either
    try:
        start_scope(tenant.session, hierarchy.mount, tenant.proc)
    except Refusal as second:
        raise Refusal(f"{first.reason}; {second.reason}", first.remedy) from second
    return _in_own_v2(tenant)


def _make_v1(base: str, hierarchy: Hierarchy, tenant: Tenant) -> V1:
    group = V1(base, hierarchy, tenant)
    group.make()
    return group


def _make_v2(group: V2, still: Callable[[], bool]) -> bool:
    """Make the group, unless ``still`` tells under the lock that this is not the place any more."""
    try:
        with cgroupfs.lock(group.base):
            if not still():
                return False
            group.make()
            return True
    except OSError as error:
        raise because(f"lock the group {group.base}", error, Version.V2) from error


def _own(hierarchy: Hierarchy) -> str:
    if hierarchy.own is None:
        reason = f"this process's group {hierarchy.path} lies outside of what is mounted at {hierarchy.mount}"
        raise Refusal(reason, f"{CONTAINER}.")
    return hierarchy.own


def _has_controllers(mount: str) -> bool:
    return not set(CONTROLLERS).isdisjoint(cgroupfs.slurp_all(f"{mount}/cgroup.controllers").split())


def _names(hierarchy: Hierarchy) -> list[str]:
    """Our names of all that the hierarchy could have given."""
    if hierarchy.version is Version.V2:
        return [*CONTROLLERS, "swap", "freezer"]
    names = [name for name, kernel in V1_NAMES.items() if kernel in hierarchy.controllers]
    return [*names, "swap"] if "memory" in names else names
