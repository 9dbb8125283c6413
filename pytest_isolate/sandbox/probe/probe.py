"""Finds out what this host allows, by trying it: once per session, in sandboxes that are thrown away.

First all of it at once; where that works, as on most hosts, it was one sandbox of a few milliseconds. Where it does
not, each step by itself, from namespaces to mounts, so that what is missing gets a name, and the rest is used. Neither
versions nor messages are looked at.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, AI_ADDRCONFIG, AI_NUMERICHOST, SOCK_STREAM, AddressFamily

from pytest_isolate.cgroups.session_names import session_name
from pytest_isolate.linux import files, overlayfs
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.flags import Clone, MountFlag
from pytest_isolate.plan import host_tree, own_name
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host import ESSENTIAL, NAMES, OPTIONAL, USUAL, Feature, Host, Lack
from pytest_isolate.plan.operations import Op
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.plan.rootfs import NEW, SCRATCH
from pytest_isolate.plan.session_layers import DISK
from pytest_isolate.sandbox import scratch_dir
from pytest_isolate.sandbox.probe.remedies import lack
from pytest_isolate.sandbox.probe.trees import Attempt, try_trees, without_removed
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

_STAGE = do.stage("1m")
#: Looks at the tree before a directory that is not there counts as a lack.
_LOOKS = 5
#: An address of each family that every host has.
_LOOPBACK = {AF_INET: "127.0.0.1", AF_INET6: "::1"}


def _layer_ops(host: Host) -> tuple[Op, ...]:
    """All that a writable layer must be able to do, on a lower tree made for the purpose."""
    here = f"{SCRATCH}/probe"
    options = "" if host.real_root else ",userxattr"
    made = ("", "/lower", "/lower/directory", "/upper", "/work", "/merged")
    data = overlayfs.directories([f"{here}/lower"], f"{here}/upper", f"{here}/work") + options
    return (
        *(do.mkdir(here + name) for name in made),
        do.mount("overlay", f"{here}/merged", "overlay", data=data),
        do.replace_directory(f"{here}/merged/directory"),
    )


class _Probe:
    def __init__(self, attempt: Attempt, host: Host) -> None:
        self.attempt, self.host = attempt, host
        self.lacks: list[Lack] = []

    def works(self, what: Feature, plan: Plan) -> bool:
        """Try ``plan``; write down what is lacking if it fails."""
        error = self.attempt(plan)
        if error:
            self.lacks.append(lack(what, error))
        return error is None

    def plan(self, *ops: Op, namespaces: Clone = ESSENTIAL, scratch: str = "") -> Plan:
        """A Plan of ``ops`` with the id maps that this host needs."""
        host = self.host
        if host.real_root:
            return Plan(namespaces=namespaces & ~Clone.NEWUSER, ops=ops, scratch=scratch)
        uid_map, gid_map = host.id_maps() if namespaces & Clone.NEWUSER else ("", "")
        return Plan(namespaces=namespaces, uid_map=uid_map, gid_map=gid_map, ops=ops, scratch=scratch)


def probe(attempt: Attempt, *, important: Iterable[str] = (), scratch: Iterable[str] = ()) -> Host:
    """What this host allows.

    :param attempt: builds a Plan and takes it down again.
    :param important: absolute paths that tests will write to: the project, home, temporary folder.
    :param scratch: directories on disk that may hold writable layers where a tmpfs can't; the usual ones by default.
    """
    attempt = _apart(attempt)
    important = [tempfile.gettempdir(), *important]
    kinds = (True, False) if calls.geteuid() == 0 else (False,)
    tried: list[Host] = []
    for real_root in kinds:
        host, error = _look_and_try(attempt, important, real_root=real_root)
        if error is None:
            return host
        tried.append(host)
    found: list[Host] = []
    for host in tried:
        found.append(_try_step_by_step(attempt, host, list(scratch) or _usual_scratch()))
        if found[-1].sandbox:
            return found[-1]
    return _try_without_sandbox(attempt, found[-1])


def _apart(attempt: Attempt) -> Attempt:
    """Have scratch space on disk in a folder of this look's own.

    Another session may look at the same moment; and what is left where a builder is killed has a name by which the next
    session sweeps it.
    """

    def apart(plan: Plan) -> SetupError | None:
        if not plan.scratch:
            return attempt(plan)
        try:
            with scratch_dir.directory(plan.scratch, f"{session_name()}.look") as own:
                return attempt(plan._replace(scratch=own))
        except OSError as error:
            return SetupError.of("make the scratch directory", error)

    return apart


def renewed(host: Host, *, important: Iterable[str] = ()) -> Host | None:
    """``host`` with its files as they are by now; None if those that sandboxes have copies of are what they were.

    :param important: see :func:`probe`.
    """
    hosts, tree = host.hosts, host.tree
    if hosts is not None and own_name.look_at_stamp() != hosts.stamp:
        hosts = own_name.look()
    if tree.is_stale():
        fresh = host_tree.look(important=[tempfile.gettempdir(), *important], rootless=not host.real_root)
        tree = fresh._replace(refused=tree.refused, left_out={**tree.left_out, **fresh.left_out})
    if hosts is host.hosts and tree is host.tree:
        return None
    return host._replace(hosts=hosts, tree=tree)


def _look_and_try(
    attempt: Attempt, important: Iterable[str], *, real_root: bool, looks: int = _LOOKS
) -> tuple[Host, SetupError | None]:
    """All that a host may allow, at once. A directory may go between the look and the try: then look again."""
    host = _hope(important, real_root=real_root)
    while (error := attempt(_plan_everything(host))) is not None:
        if (smaller := without_removed(host, error)) is None:
            break
        host = smaller
    if error is not None and error.errno == errno.ENOENT and looks > 1:
        return _look_and_try(attempt, important, real_root=real_root, looks=looks - 1)
    return host, error


def _hope(important: Iterable[str], *, real_root: bool) -> Host:
    return Host(
        uid=calls.geteuid(),
        gid=os.getegid(),
        real_root=real_root,
        namespaces=ESSENTIAL | USUAL | OPTIONAL,
        uid_map=files.read_text("/proc/self/uid_map"),
        gid_map=files.read_text("/proc/self/gid_map"),
        tree=host_tree.look(important=important, rootless=not real_root),
        hosts=own_name.look(),
        families=frozenset(filter(_is_configured, _LOOPBACK)),
        process=calls.getpid(),
    )


def _is_configured(family: AddressFamily) -> bool:
    try:
        calls.getaddrinfo(_LOOPBACK[family], 0, family, SOCK_STREAM, 0, AI_ADDRCONFIG | AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _usual_scratch() -> list[str]:
    usual = [tempfile.gettempdir(), "/var/tmp"]  # noqa: S108 - where large temporary files belong (hier(7))
    return [DISK, *usual] if files.is_directory(DISK) else usual


def _plan_everything(host: Host) -> Plan:
    """The Plan of the plainest sandbox, with a check of its foundations and of the namespaces that the test makes."""
    plan = plan_for(Spec(), host)
    optional = host.namespaces & OPTIONAL
    last = (do.unshare(optional),) if optional else ()
    return plan._replace(ops=(plan.ops[0], *_layer_ops(host), *plan.ops[1:], *last))


def _try_step_by_step(attempt: Attempt, hoped: Host, scratch: list[str]) -> Host:
    probe = _Probe(attempt, hoped)
    namespaces = _try_namespaces(probe)
    host = hoped._replace(namespaces=namespaces)
    if namespaces & ESSENTIAL != ESSENTIAL or not probe.works("mounts", probe.plan(_STAGE)):
        return host._replace(overlay=False, fresh_proc=False, fresh_sys=False, lacks=tuple(probe.lacks))
    directory = _find_scratch(probe, scratch)
    if directory is None:
        return host._replace(overlay=False, lacks=tuple(probe.lacks))
    proc = do.mount("proc", NEW, "proc", MountFlag.NOSUID)
    sys = do.mount("sysfs", NEW, "sysfs", MountFlag.NOSUID | MountFlag.RDONLY)
    host = host._replace(
        scratch=directory,
        fresh_proc=probe.works("fresh_proc", probe.plan(_STAGE, proc)),
        fresh_sys=attempt(probe.plan(_STAGE, sys, namespaces=ESSENTIAL | (namespaces & Clone.NEWNET))) is None,
    )
    host, error = try_trees(attempt, host)
    if error:
        probe.lacks.append(lack("overlay", error))
        host = host._replace(overlay=False)
    return host._replace(lacks=(*probe.lacks, *host.lacks))


def _try_without_sandbox(attempt: Attempt, host: Host) -> Host:
    """The same with only the namespaces that need no mounts, for users who choose to run tests degraded."""
    rest = host
    for left_out in (Clone(0), Clone.NEWNET, host.namespaces):
        rest = host._replace(namespaces=host.namespaces & ~left_out)
        if attempt(plan_for(Spec(), rest)) is None:
            break
    return rest


def _try_namespaces(probe: _Probe) -> Clone:
    """Those that can be made, each in a user namespace, where everyone may make the others (user_namespaces(7))."""
    host = probe.host
    uid_map, gid_map = host.id_maps()
    user = Plan(namespaces=Clone.NEWUSER, uid_map=uid_map, gid_map=gid_map)
    if not probe.works("userns", user):
        return Clone(0)
    found = Clone.NEWUSER
    for flag, name in NAMES.items():
        if flag != Clone.NEWUSER and probe.works(name, user._replace(namespaces=Clone.NEWUSER | flag)):
            found |= flag
    for flag in (Clone.NEWCGROUP, Clone.NEWTIME):
        if probe.attempt(user._replace(namespaces=Clone.NEWUSER | flag)) is None:
            found |= flag
    if host.real_root and not probe.works("mountns", Plan(namespaces=Clone.NEWPID | Clone.NEWNS | Clone.NEWIPC)):
        found &= ~Clone.NEWNS
    return found


def _find_scratch(probe: _Probe, scratch: list[str]) -> str | None:
    """Where writable layers can be: "" for a tmpfs, else a directory on disk; None if nowhere."""
    ops = (_STAGE, *_layer_ops(probe.host))
    first = probe.attempt(probe.plan(*ops))
    if first is None:
        return ""
    for directory in scratch:
        if probe.attempt(probe.plan(*ops, scratch=directory)) is None:
            return directory
    probe.lacks.append(lack("overlay", first))
    return None
