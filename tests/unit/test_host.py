"""From tries that fail in the ways of real hosts to what is planned, and what the user is told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_isolate.errors import SetupError
from pytest_isolate.host import ESSENTIAL, OPTIONAL, USUAL, Host, Lack, group_range, identity
from pytest_isolate.plan import Clone, Plan, Step
from pytest_isolate.planning import plan_for, unsupported
from pytest_isolate.probe import probe
from pytest_isolate.remedies import remedy
from pytest_isolate.spec import Spec
from pytest_isolate.tree import Entry, Tree

HOST = Host(
    uid=1000,
    gid=1000,
    real_root=False,
    namespaces=ESSENTIAL | USUAL | OPTIONAL,
    uid_map="0 0 4294967295\n",
    gid_map="0 0 4294967295\n",
    tree=Tree(mounts=(), points={}, skeleton=(Entry(path="/", kind="directory"), Entry(path="/usr", kind="directory"))),
)
ROOT = replace(HOST, uid=0, gid=0, real_root=True)


def steps(plan: Plan) -> list[Step]:
    return [op.step for op in plan.ops]


# ---------------------------------------------------------------------------------------------------- plans


def test_rootless_all_namespaces_are_made_at_once_with_one_id_each() -> None:
    plan = plan_for(Spec(), HOST)
    assert plan.namespaces == ESSENTIAL | USUAL | Clone.NEWTIME
    assert (plan.uid_map, plan.gid_map) == ("1000 1000 1", "1000 1000 1")
    assert (plan.join, plan.join_late, plan.unshare_late) == (ESSENTIAL | USUAL, Clone.NEWTIME, Clone.NEWCGROUP)
    assert plan.capabilities == 0
    assert Step.UNSHARE not in steps(plan)


def test_as_root_the_mounts_are_made_outside_the_user_namespace_which_comes_after_the_pivot() -> None:
    plan = plan_for(Spec(), ROOT)
    assert plan.namespaces == Clone.NEWPID | Clone.NEWNS | Clone.NEWIPC
    assert plan.uid_map == "0 0 4294967295\n"
    (unshare,) = [op for op in plan.ops if op.step is Step.UNSHARE]
    assert unshare.number == Clone.NEWUSER | Clone.NEWNET | Clone.NEWUTS
    assert Step.MOUNT not in steps(plan)[steps(plan).index(Step.PIVOT) :]
    assert plan.join == ESSENTIAL | USUAL
    assert plan.unshare_late == OPTIONAL
    assert plan.capabilities & 1 << 21
    assert not plan.capabilities & 1 << 16  # CAP_SYS_MODULE


def test_root_inside_is_the_user_outside() -> None:
    plan = plan_for(Spec(user="root"), HOST)
    assert (plan.uid_map, plan.gid_map) == ("0 1000 1", "0 1000 1")
    assert plan.capabilities


@pytest.mark.parametrize("host", [HOST, ROOT])
def test_with_the_hosts_network_no_network_is_made_or_set_up(host: Host) -> None:
    plan = plan_for(Spec(network="host"), host)
    made = plan.namespaces | plan.join | Clone(next((op.number for op in plan.ops if op.step is Step.UNSHARE), 0))
    assert not made & Clone.NEWNET
    assert not {Step.LOOPBACK, Step.WRITE, Step.HOLD} & set(steps(plan))


def test_size_and_name_come_from_the_spec() -> None:
    plan = plan_for(Spec.of(disk="20M", hostname="here"), HOST)
    assert plan.ops[0].a == "size=20971520,mode=755"
    assert plan.ops[-1].a == "here"


def test_what_is_bound_through_comes_last_so_that_nothing_covers_it() -> None:
    plan = plan_for(Spec.of(writable=["/b", "/a"]), HOST)
    assert [op.b for op in plan.ops[steps(plan).index(Step.PIVOT) - 2 :][:2]] == ["/new/a", "/new/b"]


def test_where_no_sandbox_can_be_built_the_plan_has_no_namespaces() -> None:
    plan = plan_for(Spec(), replace(HOST, namespaces=Clone(0)))
    assert (plan.namespaces, plan.join, plan.ops) == (Clone(0), Clone(0), ())


def test_a_namespace_that_cannot_be_made_is_left_out() -> None:
    plan = plan_for(Spec(), replace(HOST, namespaces=HOST.namespaces & ~(Clone.NEWNET | Clone.NEWTIME)))
    assert not plan.namespaces & (Clone.NEWNET | Clone.NEWTIME)
    assert Step.LOOPBACK not in steps(plan)


# ---------------------------------------------------------------------------------------------------- lacks


def lacking(*lacks: Lack, **facts: object) -> Host:
    return replace(HOST, lacks=lacks, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "spec", "keys"),
    [
        (HOST, Spec(), []),
        (lacking(Lack(what="userns", step="", target=""), namespaces=Clone(0)), Spec(), ["isolate"]),
        (lacking(Lack(what="netns", step="", target="")), Spec(), ["network"]),
        (lacking(Lack(what="netns", step="", target="")), Spec(network="host"), []),
        (lacking(Lack(what="fresh_proc", step="", target="/proc")), Spec(), ["isolate"]),
        (lacking(scratch="/var/tmp"), Spec(), []),
        (lacking(scratch="/var/tmp"), Spec.of(disk="1M"), ["disk"]),
    ],
)
def test_each_lack_is_told_under_the_key_that_it_takes_away(host: Host, spec: Spec, keys: list[str]) -> None:
    assert [key for key, _ in unsupported(spec, host)] == keys


def test_a_tree_without_overlay_matters_where_tests_write() -> None:
    host = lacking(Lack(what="tree", step="mount overlay", target="/mnt/c"))
    assert unsupported(Spec(), host) == []
    host = replace(host, tree=replace(host.tree, important=("/mnt/c/project",)))
    assert [key for key, _ in unsupported(Spec(), host)] == ["isolate"]
    assert unsupported(Spec.of(writable=["/mnt/c/project"]), host) == []


def test_a_reason_names_step_object_and_errno() -> None:
    lack = Lack(what="fresh_proc", step="mount proc", target="/proc", errno=errno.EPERM)
    assert lack.reason == "cannot mount proc on /proc: EPERM (Operation not permitted)"


@pytest.mark.parametrize(
    ("settings", "code", "expected"),
    [
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel/unprivileged_userns_clone": "0"}, errno.EPERM, "unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, errno.ENOSPC, "user.max_user_namespaces="),
        ({}, errno.EPERM, "--security-opt seccomp=unconfined"),
    ],
)
def test_a_refused_user_namespace_has_the_remedy_of_the_setting_that_refuses_it(
    tmp_path: Path, settings: dict[str, str], code: int, expected: str
) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    assert expected in remedy("userns", code, tmp_path)


def test_maps_of_all_ids_are_taken_from_what_is_known_here() -> None:
    assert identity("         0     100000      65536\n") == "0 0 65536\n"
    assert group_range("0 100000 65536\n") == (0, 65535)
    assert group_range("0 0 4294967295\n") == (0, 2147483647)


# ---------------------------------------------------------------------------------------------------- probing

Refuse = Callable[[Plan], SetupError | None]


def refusing(step: Step, kind: str = "", code: int = errno.EPERM, target: str = "") -> Refuse:
    """A host on which one operation fails."""

    def attempt(plan: Plan) -> SetupError | None:
        for op in plan.ops:
            if op.step is step and (not kind or op.c == kind) and (not target or op.b == target):
                return SetupError("do it", op.b, code)
        return None

    return attempt


def test_where_all_works_one_try_says_so() -> None:
    tried: list[Plan] = []
    host = probe(tried.append)
    assert len(tried) == 1
    assert host.sandbox
    assert host.lacks == ()


def test_where_nothing_may_be_cloned_that_is_the_lack() -> None:
    host = probe(lambda _: SetupError("clone", "namespaces", errno.EPERM))
    assert not host.sandbox
    assert host.capabilities() == frozenset()
    assert host.lacks[0].what == "userns"


def test_a_masked_proc_costs_the_fresh_proc_alone() -> None:
    host = probe(refusing(Step.MOUNT, "proc"))
    assert host.sandbox
    assert not host.fresh_proc
    assert [lack.what for lack in host.lacks] == ["fresh_proc"]


def test_a_tmpfs_without_attributes_sends_the_layers_to_disk() -> None:
    def attempt(plan: Plan) -> SetupError | None:
        return None if plan.scratch else refusing(Step.RMDIR_PROBE, code=errno.EIO)(plan)

    host = probe(attempt, scratch=["/somewhere"])
    assert (host.scratch, host.sandbox) == ("/somewhere", True)
    assert "tmpfs_xattr" not in host.capabilities()


def test_without_overlays_there_is_no_sandbox() -> None:
    host = probe(refusing(Step.MOUNT, "overlay", errno.ENODEV))
    assert not host.sandbox
    assert [lack.what for lack in host.lacks] == ["overlay"]
    assert "modprobe overlay" in host.lacks[0].remedy


def test_a_network_namespace_too_many_costs_the_network_alone() -> None:
    def attempt(plan: Plan) -> SetupError | None:
        made = plan.namespaces | Clone(next((op.number for op in plan.ops if op.step is Step.UNSHARE), 0))
        return SetupError("clone", "namespaces", errno.ENOSPC) if made & Clone.NEWNET else None

    host = probe(attempt)
    assert host.sandbox
    assert [key for key, _ in unsupported(Spec(), host)] == ["network"]
    assert "user.max_net_namespaces" in host.lacks[0].remedy
