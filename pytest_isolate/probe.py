"""Finds out what this host allows, by trying it: once per session, in sandboxes that are thrown away.

First all of it at once; where that works, as on most hosts, it was one sandbox of a few milliseconds. Where it does
not, each step by itself, from namespaces to mounts, so that what is missing gets a name, and the rest is used. Neither
versions nor messages are looked at.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_isolate import tree
from pytest_isolate.errors import SetupError
from pytest_isolate.host import ESSENTIAL, NAMES, OPTIONAL, USUAL, Feature, Host, Lack, identity
from pytest_isolate.plan import Clone, MountFlag, Op, Plan, Step
from pytest_isolate.planning import plan_for
from pytest_isolate.remedies import remedy
from pytest_isolate.rootfs import NEW, SCRATCH
from pytest_isolate.spec import Spec

#: Builds a Plan and takes it down again; the error if it could not be built.
Attempt = Callable[[Plan], SetupError | None]

_STAGE = Op(Step.STAGE, a="size=1m,mode=755")
#: Trees in which an overlay may be refused before the host counts as one without overlays.
_PATIENCE = 64
#: Looks at the tree before a directory that is not there counts as a lack.
_LOOKS = 5


def _layer_ops(options: str) -> tuple[Op, ...]:
    """All that a writable layer must be able to do, on a lower tree made for the purpose."""
    here = f"{SCRATCH}/probe"
    made = ("", "/lower", "/lower/directory", "/upper", "/work", "/merged")
    data = f"lowerdir={here}/lower,upperdir={here}/upper,workdir={here}/work{options}"
    return (
        *(Op(Step.MKDIR, 0o755, b=here + name) for name in made),
        Op(Step.MOUNT, 0, "overlay", f"{here}/merged", "overlay", data),
        Op(Step.RMDIR_PROBE, b=f"{here}/merged/directory"),
    )


@dataclass(slots=True)
class _Probe:
    attempt: Attempt
    host: Host
    lacks: list[Lack] = field(default_factory=list)

    def works(self, what: Feature, plan: Plan) -> bool:
        """Try ``plan``; write down what is lacking if it fails."""
        error = self.attempt(plan)
        if error:
            self.lacks.append(_lack(what, error))
        return error is None

    def plan(self, *ops: Op, namespaces: Clone = ESSENTIAL, scratch: str = "") -> Plan:
        """A Plan of ``ops`` with the id maps that this host needs."""
        host = self.host
        if host.real_root:
            return Plan(namespaces=namespaces & ~Clone.NEWUSER, ops=ops, scratch=scratch)
        maps = (f"{host.uid} {host.uid} 1", f"{host.gid} {host.gid} 1") if namespaces & Clone.NEWUSER else ("", "")
        return Plan(namespaces=namespaces, uid_map=maps[0], gid_map=maps[1], ops=ops, scratch=scratch)


def probe(attempt: Attempt, *, important: Iterable[str] = (), scratch: Iterable[str] = ()) -> Host:
    """What this host allows.

    :param attempt: builds a Plan and takes it down again.
    :param important: absolute paths that tests will write to: the project, home, temporary folder.
    :param scratch: directories on disk that may hold writable layers where a tmpfs can't; the usual ones by default.
    """
    important = [tempfile.gettempdir(), *important]
    kinds = (True, False) if os.geteuid() == 0 else (False,)
    tried: list[Host] = []
    for real_root in kinds:
        host, error = _look_and_try(attempt, important, real_root=real_root)
        if error is None:
            return host
        tried.append(host)
    found: list[Host] = []
    for host in tried:
        found.append(_step_by_step(attempt, host, list(scratch) or _usual_scratch()))
        if found[-1].sandbox:
            return found[-1]
    return _without_sandbox(attempt, found[-1])


def _look_and_try(
    attempt: Attempt, important: Iterable[str], *, real_root: bool, looks: int = _LOOKS
) -> tuple[Host, SetupError | None]:
    """All that a host may allow, at once. A directory may go between the look and the try: then look again."""
    host = _hoped_for(important, real_root=real_root)
    error = attempt(_everything(host))
    if error is not None and error.errno == errno.ENOENT and looks > 1:
        return _look_and_try(attempt, important, real_root=real_root, looks=looks - 1)
    return host, error


def _hoped_for(important: Iterable[str], *, real_root: bool) -> Host:
    return Host(
        uid=os.geteuid(),
        gid=os.getegid(),
        real_root=real_root,
        namespaces=ESSENTIAL | USUAL | OPTIONAL,
        uid_map=Path("/proc/self/uid_map").read_text(),
        gid_map=Path("/proc/self/gid_map").read_text(),
        tree=tree.look(important=important, rootless=not real_root),
    )


def _usual_scratch() -> list[str]:
    return [tempfile.gettempdir(), "/var/tmp"]  # noqa: S108 - where large temporary files belong (hier(7))


def _everything(host: Host) -> Plan:
    """The Plan of the plainest sandbox, with a check of its foundations and of the namespaces that the test makes."""
    plan = plan_for(Spec(), host)
    options = "" if host.real_root else ",userxattr"
    optional = host.namespaces & OPTIONAL
    last = (Op(Step.UNSHARE, optional),) if optional else ()
    return replace(plan, ops=(plan.ops[0], *_layer_ops(options), *plan.ops[1:], *last))


def _step_by_step(attempt: Attempt, hoped: Host, scratch: list[str]) -> Host:
    probe = _Probe(attempt, hoped)
    namespaces = _namespaces(probe)
    host = replace(hoped, namespaces=namespaces)
    if namespaces & ESSENTIAL != ESSENTIAL or not probe.works("mounts", probe.plan(_STAGE)):
        return replace(host, overlay=False, fresh_proc=False, fresh_sys=False, lacks=tuple(probe.lacks))
    place = _layers(probe, scratch)
    if place is None:
        return replace(host, overlay=False, lacks=tuple(probe.lacks))
    proc = Op(Step.MOUNT, MountFlag.NOSUID, "proc", NEW, "proc")
    sys = Op(Step.MOUNT, MountFlag.NOSUID | MountFlag.RDONLY, "sysfs", NEW, "sysfs")
    host = replace(
        host,
        scratch=place,
        fresh_proc=probe.works("fresh_proc", probe.plan(_STAGE, proc)),
        fresh_sys=attempt(probe.plan(_STAGE, sys, namespaces=ESSENTIAL | (namespaces & Clone.NEWNET))) is None,
    )
    host, error = _trees(attempt, host)
    if error:
        probe.lacks.append(_lack("overlay", error))
        host = replace(host, overlay=False)
    return replace(host, lacks=(*probe.lacks, *host.lacks))


def _without_sandbox(attempt: Attempt, host: Host) -> Host:
    """The same with only those namespaces that can be set up without mounts, for who chooses to run tests degraded."""
    rest = host
    for left_out in (Clone(0), Clone.NEWNET, host.namespaces):
        rest = replace(host, namespaces=host.namespaces & ~left_out)
        if attempt(plan_for(Spec(), rest)) is None:
            break
    return rest


def _namespaces(probe: _Probe) -> Clone:
    """Those that can be made, each in a user namespace, where everyone may make the others (user_namespaces(7))."""
    host = probe.host
    user = Plan(namespaces=Clone.NEWUSER, uid_map=f"{host.uid} {host.uid} 1", gid_map=f"{host.gid} {host.gid} 1")
    if host.real_root:
        user = replace(user, uid_map=identity(host.uid_map), gid_map=identity(host.gid_map))
    if not probe.works("userns", user):
        return Clone(0)
    found = Clone.NEWUSER
    for flag, name in NAMES.items():
        if flag != Clone.NEWUSER and probe.works(name, replace(user, namespaces=Clone.NEWUSER | flag)):
            found |= flag
    for flag in (Clone.NEWCGROUP, Clone.NEWTIME):
        if probe.attempt(replace(user, namespaces=Clone.NEWUSER | flag)) is None:
            found |= flag
    if host.real_root and not probe.works("mountns", Plan(namespaces=Clone.NEWPID | Clone.NEWNS | Clone.NEWIPC)):
        found &= ~Clone.NEWNS
    return found


def _layers(probe: _Probe, scratch: list[str]) -> str | None:
    """Where writable layers can be: "" for a tmpfs, else a directory on disk; None if nowhere."""
    options = "" if probe.host.real_root else ",userxattr"
    ops = (_STAGE, *_layer_ops(options))
    first = probe.attempt(probe.plan(*ops))
    if first is None:
        return ""
    for place in scratch:
        if probe.attempt(probe.plan(*ops, scratch=place)) is None:
            return place
    probe.lacks.append(_lack("overlay", first))
    return None


def _trees(attempt: Attempt, host: Host) -> tuple[Host, SetupError | None]:
    """Learn which trees refuse an overlay; they will be shown read-only, or left out if even that is refused."""
    error: SetupError | None = None
    for _ in range(_PATIENCE):
        plan = plan_for(Spec(), host)
        error = attempt(plan)
        if error is None:
            return host, None
        path = error.target.removeprefix(NEW)
        facts = host.tree
        shown = {layer.seen for layer in plan.layers} - {"/"}
        if path in shown and error.errno not in (errno.ENOMEM, errno.ENOSPC):
            facts = replace(facts, refused={**facts.refused, path: error.errno})
        elif path in facts.refused or any(mount.point == path for mount in facts.mounts):
            facts = replace(facts, left_out={**facts.left_out, path: error.errno})
        else:
            return host, error
        host = replace(host, tree=facts, lacks=(*host.lacks, _lack("tree", error)))
    return host, error


def _lack(what: Feature, error: SetupError) -> Lack:
    target = error.target.removeprefix(NEW) or error.target
    return Lack(what=what, step=error.step, target=target, errno=error.errno, remedy=remedy(what, error.errno))
