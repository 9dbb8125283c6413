"""The host's file systems, as a test finds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.in_sandbox import ROOT, Job, Seen, prepared, sh

pytestmark = pytest.mark.needs("userns", "overlay")


#: The host's, bound where a sandbox may have none of its own.
NODES = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
SUBMOUNTS = """
mount -t tmpfs -o mode=755 none /mnt
mkdir -p /mnt/plain/sub /mnt/outer
echo plain > /mnt/plain/sub/file
mount -t tmpfs none /mnt/outer
mkdir -p /mnt/outer/side /mnt/outer/inner
echo side > /mnt/outer/side/file
echo outer > /mnt/outer/file
mount -t tmpfs none /mnt/outer/inner
echo inner > /mnt/outer/inner/file
ln -s outer/inner /mnt/link
"""


def test_what_is_mounted_below_is_seen_and_writable_and_private(layout: str) -> None:
    script = """
    cd /mnt; cat plain/sub/file outer/file outer/side/file outer/inner/file link/file
    for each in plain/sub outer/side outer/inner; do echo changed > $each/file; echo new > $each/new; done
    rm outer/file
    """
    seen = prepared(SUBMOUNTS, Job(script=script, layout=layout))
    assert (seen.status, seen.lines) == (0, ["plain", "outer", "side", "inner", "inner"])
    each = ("/mnt/plain/sub", "/mnt/outer/side", "/mnt/outer/inner")
    expected = [*(f"M {path}/file" for path in each), *(f"A {path}/new" for path in each)]
    if (
        layout == "root"
    ):  # there, a file beside mount points is a copy in the skeleton, and nothing tells that it has gone
        expected.append("D /mnt/outer/file")
    assert seen.changes == sorted(expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take the machine's mounts away, in a namespace of his own")
def test_nothing_need_be_mounted_but_what_the_kernel_makes(layout: str) -> None:
    """As in a container of one file system."""
    setup = """
    awk '{ print $5 }' /proc/self/mountinfo | tac | while read -r point; do
        case $point in / | /proc* | /sys* | /dev*) ;; *) umount -l "$point" ;; esac
    done
    """
    seen = prepared(setup, Job(script="test -d /usr && echo x > /etc/isolate-test && echo done", layout=layout))
    assert (seen.status, seen.output) == (0, "done\n")
    assert seen.changes == ["A /etc/isolate-test"]


def test_what_is_stacked_on_a_mount_hides_it(layout: str) -> None:
    setup = SUBMOUNTS + "mount -t tmpfs none /mnt/outer; echo top > /mnt/outer/file"
    seen = prepared(setup, Job(script="cat /mnt/outer/file; ls /mnt/outer", layout=layout))
    assert (seen.status, seen.lines) == (0, ["top", "file"])


def test_a_file_that_is_a_mount_point_shows_what_is_mounted_and_is_private(layout: str) -> None:
    setup = """
    mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/etc; echo below > /mnt/etc/hosts; echo other > /mnt/etc/other
    echo mounted > /mnt/source; mount --bind /mnt/source /mnt/etc/hosts
    """
    script = "cat /mnt/etc/hosts /mnt/etc/other; echo changed > /mnt/etc/hosts; cat /mnt/etc/hosts /mnt/source"
    seen = prepared(setup, Job(script=script, layout=layout))
    assert (seen.status, seen.lines) == (0, ["mounted", "other", "changed", "mounted"])
    assert seen.changes == ["M /mnt/etc/hosts"]


def test_a_read_only_file_that_is_a_mount_point_stays_so_and_is_not_listed(layout: str) -> None:
    setup = """
    mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/etc; touch /mnt/etc/hosts; echo mounted > /mnt/source
    mount --bind /mnt/source /mnt/etc/hosts; mount -o remount,bind,ro /mnt/etc/hosts
    """
    script = "cat /mnt/etc/hosts; (echo changed > /mnt/etc/hosts) 2>/dev/null || echo no"
    seen = prepared(setup, Job(script=script, layout=layout))
    assert (seen.status, seen.lines, seen.changes) == (0, ["mounted", "no"], [])


def test_a_read_only_mount_stays_read_only(layout: str) -> None:
    setup = "mount -t tmpfs -o mode=755 none /mnt; echo x > /mnt/file; mount -o remount,bind,ro /mnt"
    seen = prepared(setup, Job(script="cat /mnt/file; touch /mnt/new", layout=layout))
    assert seen.lines[0] == "x"
    assert "Read-only file system" in seen.output
    assert seen.status != 0


def test_a_mount_that_forbids_programs_forbids_them_inside(layout: str) -> None:
    setup = (
        "mount -t tmpfs -o mode=755,noexec none /mnt; printf '#!/bin/sh\\necho ran\\n' > /mnt/run; chmod 755 /mnt/run"
    )
    seen = prepared(setup, Job(script="/mnt/run", layout=layout))
    assert seen.status == 126
    assert "ran" not in seen.lines


def test_a_tree_that_takes_no_overlay_is_shown_read_only_and_named(layout: str) -> None:
    """An overlay of an overlay of an overlay is more than the kernel takes (EINVAL), as in a sandbox in a sandbox."""
    setup = """
    mount -t tmpfs -o mode=755 none /mnt; cd /mnt; mkdir l u w once u2 w2 twice; echo x > l/file
    mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none once
    mount -t overlay -o lowerdir=once,upperdir=u2,workdir=w2 none twice; cd /
    """
    script = "cat /mnt/twice/file /mnt/once/file; echo y > /mnt/once/file && echo x > /mnt/twice/new"
    seen = prepared(setup, Job(script=script, layout=layout))
    assert seen.lines[:2] == ["x", "x"]
    assert "Read-only file system" in seen.output
    (lack,) = seen.lacks
    assert lack.startswith("tree /mnt/twice: cannot mount overlay on /mnt/twice: EINVAL")
    assert seen.changes == ["M /mnt/once/file"]


@pytest.mark.skipif(not ROOT, reason="the test runs as root, whose project is the user's")
def test_two_hundred_mounts_are_no_obstacle(layout: str) -> None:
    setup = """
    mount -t tmpfs -o mode=755 none /mnt; cd /mnt
    for i in $(seq 200); do mkdir m$i; mount -t tmpfs none m$i; echo $i > m$i/file; done; cd /
    """
    seen = prepared(setup, Job(script="cat /mnt/m*/file | wc -l; echo x > /mnt/m77/new", layout=layout))
    assert (seen.status, seen.lines) == (0, ["200"])
    assert seen.changes == ["A /mnt/m77/new"]


def test_no_mount_of_the_host_is_left_inside(layout: str) -> None:
    seen = sh("cut -d' ' -f5- /proc/self/mountinfo", layout=layout)
    assert seen.status == 0
    kinds = {line.split(" - ")[1].split()[0] for line in seen.lines}
    assert kinds <= {"overlay", "tmpfs", "proc", "sysfs", "devtmpfs", "devpts", "mqueue"} | _readonly_kinds(seen)
    assert not [line for line in seen.lines if line.split()[0].startswith(("/old", "/s"))] or "/sys" in seen.output
    assert sh("ls -d /old /s /new", layout=layout).status != 0


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_no_mount_lets_programs_gain_rights_or_devices_be_used(layout: str, folder: Path, place: str) -> None:
    seen = sh("cut -d' ' -f5- /proc/self/mountinfo", layout=layout, scratch=str(folder) if place == "disk" else "")
    found = {}
    for line in seen.lines:
        point, options = line.split()[:2]
        found[point] = {*options.split(",")}
    assert {point for point, options in found.items() if "nosuid" not in options} - NODES - {"/sys"} == set()
    assert {point for point, options in found.items() if "nodev" not in options} <= {"/dev", "/dev/pts", "/sys", *NODES}
    assert {"/proc", "/dev/mqueue"} <= {point for point, options in found.items() if "noexec" in options}


def _readonly_kinds(seen: Seen) -> set[str]:
    lines = [line for line in seen.lines if line.split()[1].split(",")[0] == "ro"]
    return {line.split(" - ")[1].split()[0] for line in lines}


def test_a_mount_made_outside_later_does_not_appear_and_one_made_inside_does_not_get_out(layout: str) -> None:
    setup = "mount -t tmpfs -o mode=755 none /mnt; mount --make-shared /mnt; mkdir /mnt/a"
    seen = prepared(
        setup,
        Job(script="cat /mnt/a/file", layout=layout, meanwhile="mount -t tmpfs none /mnt/a; echo x > /mnt/a/file"),
    )
    assert seen.status != 0
    assert "No such file" in seen.output


def test_where_mounts_are_shared_none_of_the_sandboxs_gets_out(layout: str, tmp_path: Path) -> None:
    """As on a host with systemd, which makes all mounts shared."""
    count = "wc -l < /proc/self/mountinfo"
    setup = f"mount --make-rshared /; {count} > {tmp_path}/before"
    seen = prepared(setup, Job(layout=layout, meanwhile=f"test $({count}) = $(cat {tmp_path}/before)"))
    assert seen.status == 0
