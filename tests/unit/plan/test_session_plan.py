"""What is planned for pytest itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_isolate.linux import files, mountinfo
from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan import host_tree, rootfs, session_layers, session_sockets
from pytest_isolate.plan.host import ESSENTIAL, USUAL, Host
from pytest_isolate.plan.host_tree import Entry
from pytest_isolate.plan.operations import Step
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.session_plan import session_plan
from pytest_isolate.spec.spec import Spec
from tests.support.hosts import HOST, ROOT


def plan_of(spec: Spec, host: Host) -> Plan:
    return session_plan(spec, host._replace(tree=host.tree._replace(queues=True)), ())


def test_rootless_it_is_the_same_user_in_a_user_namespace() -> None:
    plan = plan_of(Spec(), HOST)
    assert plan.namespaces == plan.join == ESSENTIAL | USUAL
    assert (plan.uid_map, plan.gid_map) == ("1000 1000 1", "1000 1000 1")
    assert not plan.capabilities


def test_real_root_stays_real_root_as_sandboxes_of_tests_need_it() -> None:
    plan = plan_of(Spec(), ROOT)
    assert plan.namespaces == plan.join == (ESSENTIAL | USUAL) & ~Clone.NEWUSER
    assert not plan.uid_map
    assert "/dev" in [layer.seen for layer in plan.layers]


@pytest.mark.parametrize("host", [HOST, ROOT])
def test_nothing_is_given_up_that_sandboxes_above_it_need(host: Host) -> None:
    plan = plan_of(Spec(), host)
    assert not plan.no_new_privs
    assert not plan.seccomp
    assert not plan.unshare_late


@pytest.mark.parametrize("host", [HOST, ROOT])
def test_shared_memory_and_message_queues_are_its_own(host: Host) -> None:
    mounts = {op.target: op.kind for op in plan_of(Spec(), host).ops if op.step is Step.MOUNT}
    assert mounts["/new/dev/shm"] == "tmpfs"
    assert mounts["/new/dev/mqueue"] == "mqueue"


def test_with_the_hosts_network_no_network_is_made_or_set_up() -> None:
    plan = plan_of(Spec(network="host"), HOST)
    assert not plan.namespaces & Clone.NEWNET
    assert Step.LOOPBACK not in [op.step for op in plan.ops]


@pytest.mark.parametrize(("spec", "size"), [(Spec(), "50%"), (Spec.of(disk="20M"), "20971520")])
def test_the_layers_may_have_half_of_the_memory_unless_somebody_says_otherwise(spec: Spec, size: str) -> None:
    assert plan_of(spec, HOST).ops[0].source == f"size={size},mode=755"


MOUNTED = rb"""
10 1 0:30 / / rw - overlay overlay rw,lowerdir=/old/,upperdir=/s/u0,workdir=/s/w0,index=off
11 10 0:31 / /home rw - overlay overlay rw,lowerdir=/old/home,upperdir=/s/u1,workdir=/s/w1
12 10 0:32 / /.isolate-session rw - tmpfs tmpfs rw
13 12 0:33 / /.isolate-session/s ro - tmpfs tmpfs rw
15 12 254:1 / /.isolate-session/0 ro - ext4 /dev/vda rw
16 12 254:2 / /.isolate-session/1 ro - ext4 /dev/vdb rw
14 10 254:1 / /data rw - ext4 /dev/vda rw
"""


def test_in_a_session_sandbox_a_layer_covers_the_sessions_and_what_that_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "read", lambda: mountinfo.parse(MOUNTED.strip()))
    tree = host_tree.look(important=[], rootless=False)
    points = {point: Entry(path=point, kind="directory") for point in ("/", "/home", "/data")}

    view = rootfs.whole(tree._replace(points=points), "")

    lowers = [op.data.partition(",upperdir")[0] for op in view.ops if op.step is Step.MOUNT]
    assert lowers == [
        "lowerdir=/old/.isolate-session/s/u0:/old/.isolate-session/0",
        "lowerdir=/old/data",
        "lowerdir=/old/.isolate-session/s/u1:/old/.isolate-session/1",
    ]


def test_layers_of_a_users_session_sandbox_below_others_do_not_have_these_shown_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container, whose root is an overlay, the pieces would be a layer too many."""
    lines = """
    10 1 0:30 /skeleton / rw - tmpfs tmpfs rw
    11 10 0:31 / /usr rw - overlay overlay rw,lowerdir=/old/usr,upperdir=/s/u1,workdir=/s/w1,userxattr
    12 11 0:32 / /usr/share rw - overlay overlay rw,lowerdir=/old/usr/share,upperdir=/s/u2,workdir=/s/w2,userxattr
    13 10 0:33 / /.isolate-session rw - tmpfs tmpfs rw
    14 13 254:1 /usr /.isolate-session/1 ro - ext4 /dev/vda rw
    15 13 254:1 /usr/share /.isolate-session/2 ro - ext4 /dev/vda rw
    """
    table = "\n".join(line.strip() for line in lines.strip().splitlines()).encode()
    monkeypatch.setattr(mountinfo, "read", lambda: mountinfo.parse(table))

    view = rootfs.piecewise(host_tree.look(important=[], rootless=True), "", root_inside=False)

    covered = {op.target: op.data.partition(",upperdir")[0] for op in view.ops if op.kind == "overlay"}
    assert [path for path in covered if path.startswith("/new/usr")] == ["/new/usr", "/new/usr/share"]
    assert covered["/new/usr"] == "lowerdir=/old/.isolate-session/s/u1:/old/.isolate-session/1"
    assert covered["/new/usr/share"] == "lowerdir=/old/.isolate-session/s/u2:/old/.isolate-session/2"


def test_what_a_users_session_binds_through_does_not_have_its_neighbours_shown_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For the same reason. What is mounted there and is not what the layer covers, as for network="nat", has pieces."""
    lines = """
    10 1 0:31 / /app rw - overlay overlay rw,lowerdir=/old/app,upperdir=/s/u1,workdir=/s/w1,userxattr
    11 10 254:1 / /app/bound rw - ext4 /dev/vda rw
    12 10 254:1 / /app/other rw - ext4 /dev/vda rw
    13 1 254:1 / /elsewhere rw - ext4 /dev/vda rw
    """
    table = "\n".join(line.strip() for line in lines.strip().splitlines()).encode()
    (tmp_path / "other").mkdir()
    shown = {"/app/other": tmp_path / "other"}
    looks = SimpleNamespace(lstat=lambda path: os.lstat(shown.get(path, tmp_path)))
    monkeypatch.setattr(session_layers, "calls", looks)

    assert list(session_layers.traps(mountinfo.parse(table), {"/app": "1"})) == ["/app/bound"]


def test_what_somebody_has_removed_outside_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "read", lambda: mountinfo.parse(MOUNTED.strip()))
    monkeypatch.setattr(files, "is_removed", lambda path: path == "/.isolate-session/1")
    assert host_tree.look(important=[], rootless=True).left_out == {"/home": errno.ENOENT}


def test_beside_a_session_sandbox_layers_of_the_same_names_are_nothing_special(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in MOUNTED.strip().splitlines() if b".isolate-session" not in line]
    monkeypatch.setattr(mountinfo, "read", lambda: mountinfo.parse(b"\n".join(lines)))
    assert not host_tree.look(important=[], rootless=False).session_layers


@pytest.mark.parametrize("host", [HOST, ROOT])
def test_layers_are_kept_read_only_for_sandboxes_above(host: Host) -> None:
    plan = plan_of(Spec(), host)
    kept = [op.target for op in plan.ops if op.target.startswith("/new/.isolate-session/") and op.step is Step.MOUNT]
    numbers = [layer.upper.removeprefix("u") for layer in plan.layers if layer.upper.startswith("u")]
    assert kept == [f"/new/.isolate-session/{name}" for name in ("s", *numbers)]
    assert "/new/.isolate-session" in [op.target for op in plan.ops if op.step is Step.READONLY]


@pytest.mark.parametrize("rootless", [True, False])
def test_sockets_of_fixtures_are_bound_as_a_layer_has_other_inodes(*, rootless: bool) -> None:
    sockets = frozenset({("/tmp/a", 1), ("/home/me/b", 2), ("/dev/log", 3), ("/shared/c", 4), ("/dev/shm/d", 5)})
    mounts = tuple(mountinfo.parse(MOUNTED.strip()))
    tree = HOST.tree._replace(mounts=mounts, sockets=sockets, shared_memory=0o1777)

    ops = session_sockets.show(tree, rootless=rootless, writable=["/shared"])

    assert [(op.source, op.target) for op in ops if op.step is Step.MOUNT] == [
        ("/old/dev/shm/d", "/new/dev/shm/d"),
        ("/old/home/me/b", "/new/home/me/b"),
        ("/old/tmp/a", "/new/tmp/a"),
    ]
    assert Step.TOUCH not in [op.step for op in ops]
    without_layer = session_sockets.show(tree._replace(shared_memory=None), rootless=rootless, writable=["/shared"])
    assert "/new/dev/shm/d" not in [op.target for op in without_layer]


def test_without_root_a_socket_beside_a_mount_needs_a_file_to_be_bound_to() -> None:
    tree = HOST.tree._replace(mounts=tuple(mountinfo.parse(MOUNTED.strip())), sockets=frozenset({("/a", 1)}))

    assert [op.target for op in session_sockets.show(tree, rootless=True, writable=[])] == ["/new/a", "/new/a"]


def test_where_layers_are_on_disk_sandboxes_above_have_a_part_of_it_and_the_layer_around_it_stays_whole() -> None:
    """A directory below another one cannot be a layer beside it: ELOOP."""
    plan = plan_of(Spec(), HOST._replace(scratch="/usr/scratch"))
    ops = [(op.step, op.source, op.target) for op in plan.ops if "/.isolate-session" in op.target]
    frozen = ops.index((Step.READONLY, "", "/new/.isolate-session"))
    assert "/old/usr" in [op.source for op in plan_of(Spec(), HOST).ops]
    assert "/old/usr" not in [op.source for op in plan.ops]
    assert (Step.MOUNT, "/s/inner", "/new/.isolate-session/disk") in ops[frozen:]
