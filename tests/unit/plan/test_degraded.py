"""What stands in for what a host lacks, and the words for it."""

from __future__ import annotations

import resource
from pathlib import Path

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.degraded import Degraded, degraded
from pytest_isolate.plan.host import ESSENTIAL, USUAL, Host
from pytest_isolate.plan.host_tree import HostTree
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.spec import Spec

HOST = Host(uid=1000, gid=1000, real_root=False, namespaces=ESSENTIAL | USUAL, tree=HostTree(mounts=(), points={}))
BARE = Host(uid=1000, gid=1000, real_root=False, namespaces=Clone(0), overlay=False, tree=HOST.tree)


def lacking(*keys: str) -> list[UnsupportedError]:
    return [UnsupportedError(key, "the reason", "the remedy") for key in keys]


def test_a_missing_memory_controller_is_replaced_by_a_limit_beyond_what_is_inherited() -> None:
    result = degraded(lacking("memory"), Spec.of(memory="50M"), HOST, ESSENTIAL, landlock=7)

    ((number, value),) = result.rlimits()
    inherited = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    assert number == resource.RLIMIT_DATA
    assert abs(value - inherited - (50 << 20)) < 16 << 20
    assert result.keys == (("memory", "the reason; instead: a limit on the data of each single process"),)
    assert result.writable is None


def test_a_missing_cpuset_controller_is_replaced_by_an_affinity() -> None:
    result = degraded(lacking("cpuset"), Spec.of(cpuset="0-2,5"), HOST, ESSENTIAL, landlock=7)

    assert result.cores == (0, 1, 2, 5)
    assert result.rlimits() == ()


def test_without_a_sandbox_landlock_leaves_only_temporary_and_bound_through_folders_writable() -> None:
    spec = Spec.of(writable=["/srv/data"])

    result = degraded(lacking("isolate"), spec, BARE, Clone.NEWUSER | Clone.NEWNET, landlock=1)

    assert result.writable is not None
    assert {"/tmp", "/var/tmp", "/dev", "/srv/data"} <= {*result.writable}
    assert "/" not in result.writable
    assert "only its own user network namespaces, no writing (Landlock) but in " in result.keys[0][1]


def test_where_nothing_stands_in_it_says_so() -> None:
    assert degraded(lacking("isolate"), Spec(), BARE, Clone(0), landlock=0).keys == (
        ("isolate", "the reason; instead: nothing"),
    )
    assert degraded(lacking("io"), Spec(), HOST, ESSENTIAL, landlock=7).keys == (("io", "the reason"),)
    assert Degraded().rlimits() == ()
