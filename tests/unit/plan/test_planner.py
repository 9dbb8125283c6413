"""What is planned for a Spec on a host."""

from __future__ import annotations

import pytest

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.host import ESSENTIAL, OPTIONAL, USUAL, Host
from pytest_isolate.plan.operations import Step
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.spec.spec import Spec
from tests.support.hosts import HOST, ROOT


def steps(plan: Plan) -> list[Step]:
    return [op.step for op in plan.ops]


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


def procs(plan: Plan) -> list[str]:
    return [op.target for op in plan.ops if op.kind == "proc"]


def test_a_nested_test_of_root_has_mounts_of_its_own_and_a_second_proc_that_shared_memory_covers() -> None:
    root = ROOT._replace(tree=ROOT.tree._replace(proc=frozenset(["sys"])))
    plan, other = plan_for(Spec(nested=True), root), plan_for(Spec(), root)
    assert (plan.unshare_late, other.unshare_late) == (OPTIONAL | Clone.NEWNS, OPTIONAL)
    assert (procs(plan), procs(other)) == (["/new/proc", "/new/dev/shm/proc"], ["/new/proc"])
    targets = [op.target for op in plan.ops if op.step is Step.MOUNT]
    assert targets.index("/new/dev/shm/proc") < targets.index("/new/dev/shm")
    assert [op.target for op in plan.ops if op.step is Step.FREEZE] == ["/new/proc"]


def test_a_user_may_mount_in_a_namespace_of_his_own_as_it_is() -> None:
    plan = plan_for(Spec(nested=True), HOST)
    assert (plan.unshare_late, procs(plan)) == (Clone.NEWCGROUP, ["/new/proc"])


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
    assert plan.ops[0].source == "size=20971520,mode=755"
    assert plan.ops[-1].source == "here"


def test_what_is_bound_through_comes_last_so_that_nothing_covers_it() -> None:
    plan = plan_for(Spec.of(writable=["/b", "/a"]), HOST)
    assert [op.target for op in plan.ops[steps(plan).index(Step.PIVOT) - 2 :][:2]] == ["/new/a", "/new/b"]


def test_where_no_sandbox_can_be_built_the_plan_has_no_namespaces() -> None:
    plan = plan_for(Spec(), HOST._replace(namespaces=Clone(0)))
    assert (plan.namespaces, plan.join, plan.ops) == (Clone(0), Clone(0), ())


def test_a_namespace_that_cannot_be_made_is_left_out() -> None:
    plan = plan_for(Spec(), HOST._replace(namespaces=HOST.namespaces & ~(Clone.NEWNET | Clone.NEWTIME)))
    assert not plan.namespaces & (Clone.NEWNET | Clone.NEWTIME)
    assert Step.LOOPBACK not in steps(plan)


@pytest.mark.parametrize(("process", "passed"), [(1, []), (2, [1]), (3, [])])
def test_a_test_is_not_given_the_number_of_pytests_process(process: int, passed: list[int]) -> None:
    plan = plan_for(Spec(), HOST._replace(process=process))
    assert [op.number for op in plan.ops if op.step is Step.PASS_NUMBERS] == passed
