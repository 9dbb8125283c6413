"""From lists of mounts, as machines have them, to the operations that make the view inside."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AddressFamily

import pytest

from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.flags import MountFlag
from pytest_isolate.plan import network, proc_sys_dev, rootfs
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host_tree import Entry, HostTree
from pytest_isolate.plan.operations import Op, Step
from pytest_isolate.plan.own_name import OwnName
from tests.support.mount_tables import DOCKER, LAPTOP, shown


def directory(path: str, **facts: int | bool) -> Entry:
    return Entry(path=path, kind="directory", **facts)  # type: ignore[arg-type]


def tree(text: bytes, **facts: object) -> HostTree:
    mounts = shown(text)
    files = {"/etc/resolv.conf", "/etc/hosts"}
    points = {
        mount.point: Entry(path=mount.point, kind="file" if mount.point in files else "directory", size=100)
        for mount in mounts
    }
    return HostTree(mounts=mounts, points=points)._replace(**facts)  # type: ignore[arg-type]


def overlays(view: rootfs.View) -> dict[str, MountFlag]:
    return {
        op.target.removeprefix("/new") or "/": MountFlag(op.number)
        for op in view.ops
        if op.step is Step.MOUNT and op.kind == "overlay"
    }


def read_only(view: rootfs.View) -> list[str]:
    return [op.target.removeprefix("/new") for op in view.ops if op.step is Step.READONLY]


def test_a_laptop_gets_an_overlay_of_each_file_system_and_images_as_they_are() -> None:
    view = rootfs.whole(tree(LAPTOP, refused={"/boot/efi": 22}, left_out={"/run/user/1000/doc": 13}), ",x")
    assert list(overlays(view)) == ["/", "/boot", "/home", "/run", "/run/lock", "/run/user/1000"]
    assert overlays(view)["/run"] & MountFlag.NOEXEC
    assert not overlays(view)["/home"] & MountFlag.NOEXEC
    assert read_only(view) == ["/boot/efi", "/snap/core x/1"]
    assert not [op for op in view.ops if "/run/user/1000/doc" in op.target]
    assert [layer.seen for layer in view.layers] == list(overlays(view))


def test_the_first_operations_are_those_of_the_overlay_of_the_root() -> None:
    assert rootfs.whole(tree(DOCKER), ",xino=off").ops[:3] == [
        Op(Step.MKDIR, 0o755, target="/s/u0"),
        Op(Step.MKDIR, 0o700, target="/s/w0"),
        Op(
            Step.MOUNT,
            MountFlag.NOSUID | MountFlag.NODEV,
            "overlay",
            "/new/",
            "overlay",
            "lowerdir=/old/,upperdir=/s/u0,workdir=/s/w0,xino=off",
        ),
    ]


def test_files_that_a_container_mounts_are_copied_and_their_changes_listed() -> None:
    view = rootfs.whole(tree(DOCKER), "")
    assert list(overlays(view)) == ["/", "/src"]
    copy = "/s/files/etc/hosts"
    at = view.ops.index(Op(Step.COPY, 0, "/old/etc/hosts", copy))
    assert view.ops[at + 1] == Op(Step.MOUNT, MountFlag.BIND, copy, "/new/etc/hosts")
    assert ("files", "/") in [(layer.upper, layer.seen) for layer in view.layers]


def test_a_read_only_file_that_gets_lines_of_ours_is_copied_and_stays_read_only() -> None:
    own = OwnName("/etc/hosts", 0o644, (0, 0), "127.0.0.1\tisolated\n", directory("/etc"), "")
    text = DOCKER.replace(b"/etc/hosts rw", b"/etc/hosts ro").replace(b"/etc/resolv.conf rw", b"/etc/resolv.conf ro")
    ops = rootfs.whole(tree(text), "", own).ops
    at = ops.index(Op(Step.MOUNT, MountFlag.BIND, "/s/files/etc/hosts", "/new/etc/hosts"))
    assert ops[at - 1].data == own.lines
    assert ops[at + 1] == do.read_only("/new/etc/hosts")
    assert do.bind("/old/etc/resolv.conf", "/new/etc/resolv.conf", recursive=True) in ops


def test_a_read_only_mount_gets_a_read_only_overlay_so_that_its_sockets_lead_nowhere() -> None:
    text = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a ro - ext4 b rw"
    assert overlays(rootfs.whole(tree(text), ""))["/a"] & MountFlag.RDONLY


@pytest.mark.parametrize(
    ("path", "expected"), [("/a b", "/a b"), ("/a:b,c", r"/a\:b\,c"), ("/a\\", "/a\\\\"), ("/a\\,", r"/a\\\,")]
)
def test_signs_with_a_meaning_in_options_are_escaped(path: str, expected: str) -> None:
    assert overlayfs.quote(path) == expected


#: As /etc of a container: a file is mounted in it, which rules out an overlay of /etc itself.
SKELETON = (
    directory("/", access=5),
    Entry(path="/bin", kind="link", target="usr/bin"),
    directory("/etc", access=5),
    directory("/etc/empty", access=5, empty=True),
    Entry(path="/etc/hosts", kind="file", mode=0o644, access=4, size=100),
    Entry(path="/etc/large", kind="file", mode=0o644, access=4, size=1 << 30),
    Entry(path="/etc/secret", kind="file", mode=0o600, access=0, size=100),
    directory("/etc/ssl", access=5),
    directory("/proc", mode=0o555),
    directory("/root", mode=0o700, access=0, empty=True),
    directory("/src"),
    directory("/tmp", mode=0o1777, empty=True),
    directory("/usr", access=5),
)


def rootless(*, root_inside: bool = False, **facts: object) -> rootfs.View:
    facts = {"skeleton": SKELETON, **facts}
    return rootfs.piecewise(tree(DOCKER, **facts), ",userxattr", root_inside=root_inside)


def test_directories_without_mounts_below_get_overlays_and_the_others_are_made_by_hand() -> None:
    view = rootless()
    assert list(overlays(view)) == ["/etc/ssl", "/src", "/tmp", "/usr"]
    assert view.layers[0].skeleton
    for op in (
        Op(Step.MOUNT, MountFlag.BIND, "/s/skeleton", "/new"),
        Op(Step.SYMLINK, 0, "usr/bin", "/new/bin"),
        Op(Step.COPY, 1 + 0o444, "/old/etc/hosts", "/new/etc/hosts"),
        Op(Step.TOUCH, 0o000, target="/new/etc/secret"),
        Op(Step.MKDIR, 0o000, target="/new/root"),
    ):
        assert op in view.ops


def test_a_stand_in_allows_its_new_owner_what_the_original_allows_him() -> None:
    modes = {op.target: op.number for op in rootless().ops if op.step in (Step.MKDIR, Step.COPY)}
    assert modes["/new/etc"] == 0o555
    assert modes["/new/etc/hosts"] == 1 + 0o444
    assert modes["/new/tmp"] == 0o1777
    inside = {op.target: op.number for op in rootless(root_inside=True).ops if op.step is Step.MKDIR}
    assert inside["/new/etc"] == 0o755


def test_a_large_file_beside_mounts_is_shown_read_only() -> None:
    assert read_only(rootless()) == ["/etc/large"]


def test_a_trap_gets_an_overlay_of_its_own_after_that_of_its_parent() -> None:
    trap = directory("/usr/local/cache", mode=0o777)
    assert list(overlays(rootless(traps=(trap,))))[-2:] == ["/usr", "/usr/local/cache"]
    gone = rootless(traps=(trap,), refused={trap.path: 2}, left_out={trap.path: 2})
    assert list(overlays(gone))[-1] == "/usr"
    assert trap.path not in read_only(gone)


def test_a_refused_tree_is_shown_read_only_with_all_below() -> None:
    view = rootless(refused={"/etc": 22, "/usr": 22})
    assert read_only(view) == ["/etc", "/usr"]
    assert not [op for op in view.ops if op.target.startswith("/new/etc/")]


@pytest.mark.parametrize("fresh", [True, False])
def test_the_machines_entries_in_proc_are_read_only_where_ids_are_the_hosts(*, fresh: bool) -> None:
    _, frozen = proc_sys_dev.proc(fresh=fresh, machine={"uptime", "irq"})
    assert frozen == do.freeze("/new/proc", ["irq", "uptime"])
    assert frozen.source == "irq/uptime"
    assert len(proc_sys_dev.proc(fresh=fresh, machine=())) == 1


def test_without_a_fresh_proc_the_hosts_is_shown() -> None:
    (op,) = proc_sys_dev.proc(fresh=False, machine=())
    assert (op.source, op.number) == ("/old/proc", MountFlag.BIND | MountFlag.REC)


@pytest.mark.parametrize("whole", [True, False])
def test_the_hosts_sys_is_read_only_and_without_cgroups(*, whole: bool) -> None:
    ops = proc_sys_dev.sys(fresh=False, whole=whole)
    assert ops[-1].step is Step.READONLY
    assert bool(ops[0].number & MountFlag.REC) is not whole
    assert any(op.target == "/new/sys/fs/cgroup" for op in ops) is not whole


def test_the_networks_settings_are_written_through_what_was_held_before_they_became_read_only() -> None:
    (hold,) = network.hold("/new/proc")
    assert hold == Op(Step.HOLD, 0, target="/new/proc/sys")
    written = [op for op in network.own(groups=(5, 9), held=True) if op.step is Step.WRITE]
    assert [(op.number, op.source, op.target) for op in written] == [
        (1, "0", "net/ipv4/ip_unprivileged_port_start"),
        (1, "5 9", "net/ipv4/ping_group_range"),
    ]
    assert network.own(groups=(5, 9), held=False) == [Op(Step.LOOPBACK)]


@pytest.mark.parametrize(("families", "number"), [({AF_INET}, 1), ({AF_INET6}, 2), ({AF_INET, AF_INET6}, 3)])
def test_loopback_gets_an_address_of_each_family_that_the_host_has(families: set[AddressFamily], number: int) -> None:
    assert network.own(groups=(5, 9), held=False, families=families) == [Op(Step.LOOPBACK, number)]
