"""From lists of mounts, as machines have them, to the operations that make the view inside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_isolate import kernelfs, network, rootfs
from pytest_isolate.mounts import Mount, below, parse, visible
from pytest_isolate.plan import MountFlag, Op, Step
from pytest_isolate.tree import Entry, Tree

LAPTOP = rb"""
22 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 27 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8072996k
26 27 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=1623604k,mode=755
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw,errors=remount-ro
32 26 0:28 / /run/lock rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=5120k
40 27 7:1 / /snap/core\040x/1 ro,nodev,relatime shared:30 - squashfs /dev/loop1 ro
41 27 254:2 / /home rw,relatime shared:31 - ext4 /dev/mapper/vg-home rw
42 27 8:1 / /boot rw,relatime shared:32 - ext2 /dev/sda1 rw
43 42 8:2 / /boot/efi rw,relatime shared:33 - vfat /dev/sda2 rw,fmask=0077
44 26 0:43 / /run/user/1000 rw,nosuid,nodev,relatime shared:40 - tmpfs tmpfs rw,uid=1000
45 44 0:44 / /run/user/1000/doc rw,nosuid,nodev,relatime shared:41 - fuse.portal portal rw,user_id=1000
46 27 0:45 / /proc/sys/fs/binfmt_misc rw shared:42 - binfmt_misc binfmt_misc rw
"""
DOCKER = rb"""
655 482 0:60 / / rw,relatime master:199 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w
656 655 0:63 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
657 655 0:64 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
661 657 0:62 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
663 655 254:1 /var/lib/docker/x/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
664 655 254:1 /var/lib/docker/x/hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
665 655 254:1 /src /src rw,relatime - ext4 /dev/vda1 rw
483 656 0:63 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
"""


def shown(text: bytes) -> tuple[Mount, ...]:
    kept = [mount for mount in visible(parse(text.strip())) if not mount.point.startswith(("/proc", "/sys", "/dev"))]
    return tuple(kept)


def directory(path: str, **facts: int | bool) -> Entry:
    return Entry(path=path, kind="directory", **facts)  # type: ignore[arg-type]


def tree(text: bytes, **facts: object) -> Tree:
    mounts = shown(text)
    files = {"/etc/resolv.conf", "/etc/hosts"}
    points = {
        mount.point: Entry(path=mount.point, kind="file" if mount.point in files else "directory", size=100)
        for mount in mounts
    }
    return replace(Tree(mounts=mounts, points=points), **facts)  # type: ignore[arg-type]


def overlays(view: rootfs.View) -> dict[str, MountFlag]:
    return {
        op.b.removeprefix("/new") or "/": MountFlag(op.number)
        for op in view.ops
        if op.step is Step.MOUNT and op.c == "overlay"
    }


def read_only(view: rootfs.View) -> list[str]:
    return [op.b.removeprefix("/new") for op in view.ops if op.step is Step.READONLY]


# ---------------------------------------------------------------------------------------------------- mountinfo


def test_a_line_is_read_with_its_optional_fields_and_escapes() -> None:
    (mount,) = parse(rb"36 35 98:0 /m /mnt\040a\134b rw,noexec shared:1 master:2 - ext3 /dev/root\040x ro,errors=x")
    assert (mount.number, mount.parent, mount.point, mount.kind) == (36, 35, "/mnt a\\b", "ext3")
    assert mount.read_only
    assert "noexec" in mount.options


def test_a_name_that_is_no_utf_8_survives() -> None:
    (mount,) = parse(b"36 35 98:0 / /m\xff - tmpfs tmpfs rw".replace(b" - ", b" rw - "))
    assert mount.point.encode("utf-8", "surrogateescape") == b"/m\xff"


def test_what_is_mounted_on_comes_before_what_is_mounted_there() -> None:
    lines = b"9 1 0:1 / / rw - ext4 a rw\n3 5 0:3 / /a/b/c rw - tmpfs c rw\n5 9 0:2 / /a/b rw - tmpfs b rw"
    assert [mount.point for mount in visible(parse(lines))] == ["/", "/a/b", "/a/b/c"]


def test_a_mount_is_hidden_by_one_stacked_on_it_with_all_below() -> None:
    lines = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a rw - tmpfs lower rw\n3 2 0:3 / /a/b rw - xfs hidden rw\n"
    found = visible(parse(lines + b"4 2 0:4 / /a rw - tmpfs top ro"))
    assert [(mount.point, mount.number) for mount in found] == [("/", 1), ("/a", 4)]


def test_a_mount_is_hidden_by_one_above_it_in_the_same_parent() -> None:
    lines = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - tmpfs hidden rw\n3 1 0:3 / /a rw - tmpfs top rw"
    assert [mount.number for mount in visible(parse(lines))] == [1, 3]


def test_in_a_chroot_the_root_has_no_line() -> None:
    assert [mount.point for mount in visible(parse(b"7 3 0:1 / /proc rw - proc proc rw"))] == ["/proc"]


@pytest.mark.parametrize(
    ("path", "top", "expected"), [("/a/b", "/a", True), ("/a", "/a", False), ("/ab", "/a", False), ("/a", "/", True)]
)
def test_below_is_about_whole_names(path: str, top: str, *, expected: bool) -> None:
    assert below(path, top) is expected


# ---------------------------------------------------------------------------------------------------- as root


def test_a_laptop_gets_an_overlay_of_each_file_system_and_images_as_they_are() -> None:
    view = rootfs.whole(tree(LAPTOP, refused={"/boot/efi": 22}, left_out={"/run/user/1000/doc": 13}), ",x")
    assert list(overlays(view)) == ["/", "/boot", "/home", "/run", "/run/lock", "/run/user/1000"]
    assert overlays(view)["/run"] & MountFlag.NOEXEC
    assert not overlays(view)["/home"] & MountFlag.NOEXEC
    assert read_only(view) == ["/boot/efi", "/snap/core x/1"]
    assert not [op for op in view.ops if "/run/user/1000/doc" in op.b]
    assert [layer.seen for layer in view.layers] == list(overlays(view))


def test_the_first_operations_are_those_of_the_overlay_of_the_root() -> None:
    assert rootfs.whole(tree(DOCKER), ",xino=off").ops[:3] == [
        Op(Step.MKDIR, 0o755, b="/s/u0"),
        Op(Step.MKDIR, 0o700, b="/s/w0"),
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


def test_a_read_only_mount_gets_a_read_only_overlay_so_that_its_sockets_lead_nowhere() -> None:
    text = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a ro - ext4 b rw"
    assert overlays(rootfs.whole(tree(text), ""))["/a"] & MountFlag.RDONLY


@pytest.mark.parametrize(
    ("path", "expected"), [("/a b", "/a b"), ("/a:b,c", r"/a\:b\,c"), ("/a\\", "/a\\\\"), ("/a\\,", r"/a\\\,")]
)
def test_signs_with_a_meaning_in_options_are_escaped(path: str, expected: str) -> None:
    assert rootfs.quoted(path) == expected


# ---------------------------------------------------------------------------------------------------- rootless

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
        Op(Step.TOUCH, 0o000, b="/new/etc/secret"),
        Op(Step.MKDIR, 0o000, b="/new/root"),
    ):
        assert op in view.ops


def test_a_stand_in_allows_its_new_owner_what_the_original_allows_him() -> None:
    modes = {op.b: op.number for op in rootless().ops if op.step in (Step.MKDIR, Step.COPY)}
    assert modes["/new/etc"] == 0o555
    assert modes["/new/etc/hosts"] == 1 + 0o444
    assert modes["/new/tmp"] == 0o1777
    inside = {op.b: op.number for op in rootless(root_inside=True).ops if op.step is Step.MKDIR}
    assert inside["/new/etc"] == 0o755


def test_a_large_file_beside_mounts_is_shown_read_only() -> None:
    assert read_only(rootless()) == ["/etc/large"]


def test_a_trap_gets_an_overlay_of_its_own_after_that_of_its_parent() -> None:
    trap = directory("/usr/local/cache", mode=0o777)
    assert list(overlays(rootless(traps=(trap,))))[-2:] == ["/usr", "/usr/local/cache"]


def test_a_refused_tree_is_shown_read_only_with_all_below() -> None:
    view = rootless(refused={"/etc": 22, "/usr": 22})
    assert read_only(view) == ["/etc", "/usr"]
    assert not [op for op in view.ops if op.b.startswith("/new/etc/")]


# ---------------------------------------------------------------------------------------------------- the kernel's


def test_proc_of_the_hosts_root_is_guarded_where_there_is_something_to_guard() -> None:
    guarded = [op.b for op in kernelfs.proc(fresh=True, protect={"sys", "uptime", "irq"}) if op.step is Step.READONLY]
    assert guarded == ["/new/proc/irq", "/new/proc/sys"]
    assert [op.c for op in kernelfs.proc(fresh=True, protect=())] == ["proc"]


def test_without_a_fresh_proc_the_hosts_is_shown() -> None:
    (op,) = kernelfs.proc(fresh=False, protect={"sys"})
    assert (op.a, op.number) == ("/old/proc", MountFlag.BIND | MountFlag.REC)


@pytest.mark.parametrize("whole", [True, False])
def test_the_hosts_sys_is_read_only_and_without_cgroups(*, whole: bool) -> None:
    ops = kernelfs.sys(fresh=False, whole=whole)
    assert ops[-1].step is Step.READONLY
    assert bool(ops[0].number & MountFlag.REC) is not whole
    assert any(op.b == "/new/sys/fs/cgroup" for op in ops) is not whole


def test_the_networks_settings_are_written_through_what_was_held_before_they_became_read_only() -> None:
    (hold,) = network.hold("/new/proc")
    assert hold == Op(Step.HOLD, 0, b="/new/proc/sys")
    written = [op for op in network.own(groups=(5, 9), held=True) if op.step is Step.WRITE]
    assert [(op.number, op.a, op.b) for op in written] == [
        (1, "0", "net/ipv4/ip_unprivileged_port_start"),
        (1, "5 9", "net/ipv4/ping_group_range"),
    ]
    assert [op.step for op in network.own(groups=(5, 9), held=False)] == [Step.LOOPBACK]
