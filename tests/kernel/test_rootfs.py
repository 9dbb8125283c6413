"""The view of the file system inside: what a test finds and may do there, and that nothing of it reaches the host."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.in_sandbox import Job, Seen, perform, prepared

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.needs("userns", "overlay")


@pytest.fixture(params=["root", "rootless"] if ROOT else ["rootless"])
def layout(request: pytest.FixtureRequest) -> str:
    """Both layouts; root can have either."""
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the host's in the temporary folder, as a project might have, which the test can see."""
    with tempfile.TemporaryDirectory(prefix="isolate-test-") as name:
        yield Path(os.path.realpath(name))


def sh(script: str, *, layout: str, cwd: str = "/", important: tuple[str, ...] = (), **keys: Any) -> Seen:
    return perform(Job(script=script, keys=keys, layout=layout, cwd=cwd, important=important))


# ---------------------------------------------------------------------------------------------------- changes


def test_a_file_that_is_written_changed_or_deleted_is_as_before_outside(folder: Path, layout: str) -> None:
    (folder / "changed").write_text("before")
    (folder / "deleted").write_text("before")
    (folder / "tree/deep").mkdir(parents=True)
    (folder / "tree/deep/file").write_text("before")
    script = "echo new > new; echo after > changed; rm deleted; rm -r tree; ls; cat new changed"
    seen = sh(script, layout=layout, cwd=str(folder), important=(str(folder),))
    assert (seen.status, seen.lines) == (0, ["changed", "new", "new", "after"])
    assert sorted(os.listdir(folder)) == ["changed", "deleted", "tree"]
    assert (folder / "changed").read_text() == (folder / "tree/deep/file").read_text() == "before"
    assert seen.changes == [f"A {folder}/new", f"D {folder}/deleted", f"D {folder}/tree", f"M {folder}/changed"]


def test_a_directory_can_be_removed_and_made_again_and_is_empty_then(folder: Path, layout: str) -> None:
    (folder / "tree").mkdir()
    (folder / "tree/file").touch()
    seen = sh("rm -r tree && mkdir tree && ls tree", layout=layout, cwd=str(folder), important=(str(folder),))
    assert (seen.status, seen.output) == (0, "")
    assert seen.changes == [f"D {folder}/tree/file"]


def test_nothing_is_reported_as_changed_by_a_run_that_changes_nothing(layout: str) -> None:
    assert sh("true", layout=layout).changes == []
    assert sh("true", layout=layout, user="root").changes == []


@pytest.mark.skipif(not ROOT, reason="only root may write there, as outside")
def test_root_may_write_everywhere(layout: str) -> None:
    name = "isolate-test-marker"
    script = f"for each in / /etc /usr /var/log; do touch $each/{name} || exit 1; done; rm /etc/passwd; cat /etc/passwd"
    seen = sh(script, layout=layout)
    assert seen.status == 1
    assert "No such file" in seen.output
    expected = ["D /etc/passwd", *(f"A {each}/{name}" for each in ("", "/etc", "/usr", "/var/log"))]
    assert seen.changes == sorted(expected)
    assert Path("/etc/passwd").exists()
    assert not Path(f"/{name}").exists()


@pytest.mark.skipif(ROOT, reason="root may")
@pytest.mark.parametrize("place", ["/", "/etc", "/usr", "/var/log"])
def test_a_user_may_not_write_where_he_may_not_outside(place: str) -> None:
    seen = sh(f"touch {place}/isolate-test-marker", layout="rootless")
    assert seen.status != 0
    assert "Permission denied" in seen.output


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
def test_temporary_folders_are_writable_and_private(place: str, layout: str) -> None:
    name = f"{place}/isolate-test-{os.getpid()}"
    seen = sh(f"mkdir {name} && echo x > {name}/file && cat {name}/file", layout=layout)
    assert (seen.status, seen.lines) == (0, ["x"])
    assert not Path(name).exists()


def test_what_the_session_makes_after_the_sandbox_was_built_is_seen(folder: Path, layout: str) -> None:
    """A wider fixture may write files while the next sandbox stands ready: nothing may have been looked up in it."""
    (folder / "old").write_text("old")
    later = f"cd {folder}; echo later > later; echo new > old.new; mv old.new old; mkdir made"
    seen = perform(
        Job(
            script="cat later old; ls -d made",
            layout=layout,
            cwd=str(folder),
            important=(str(folder),),
            meanwhile=later,
        )
    )
    assert (seen.status, seen.lines) == (0, ["later", "new", "made"])


def test_a_directory_is_renamed_by_root_and_refused_like_between_file_systems_else(folder: Path, layout: str) -> None:
    (folder / "before").mkdir()
    (folder / "before/file").touch()
    code = "import os; os.rename('before', 'after'); print(os.listdir('after'))"
    seen = sh(f'python3 -c "{code}"', layout=layout, cwd=str(folder), important=(str(folder),))
    assert ("Invalid cross-device link" in seen.output) if layout == "rootless" else (seen.lines == ["['file']"])
    assert sh("mv before after && ls after", layout=layout, cwd=str(folder)).lines == ["file"]


def test_bound_through_a_path_keeps_what_is_written(folder: Path, layout: str) -> None:
    (folder / "kept").mkdir()
    (folder / "kept/file").write_text("before")
    script = "echo after > kept/file; echo x > kept/new; echo x > lost"
    seen = sh(script, layout=layout, cwd=str(folder), important=(str(folder),), writable=[str(folder / "kept")])
    assert (folder / "kept/file").read_text() == "after\n"
    assert (folder / "kept/new").exists()
    assert not (folder / "lost").exists()
    assert seen.changes == [f"A {folder}/lost"]


def test_the_writable_layer_is_no_larger_than_asked_for(layout: str) -> None:
    seen = sh("head -c 3000000 /dev/zero > /tmp/isolate-test-big", layout=layout, disk="2M")
    assert seen.status != 0
    assert "No space left" in seen.output


@pytest.mark.parametrize("name", ["a b", "a:b", "a,b", "a\\b", '":,\\', "lower\tdir", "ümläut", "a=b,upperdir=c"])
def test_a_mount_point_may_have_any_name(name: str, layout: str) -> None:
    quoted = f"'/mnt/isolate-test/{name}'"
    setup = f"mount -t tmpfs none /mnt; mkdir -p {quoted}; mount -t tmpfs none {quoted}; echo found > {quoted}/file"
    seen = prepared(setup, Job(script=f"cat {quoted}/file; echo x > {quoted}/new", layout=layout))
    assert (seen.status, seen.output) == (0, "found\n")
    assert seen.changes == [f"A /mnt/isolate-test/{name}/new"]
    assert seen.lacks == []


# ---------------------------------------------------------------------------------------------------- mounts


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
    kinds = {line.split(" - ")[1].split()[0] for line in seen.lines}
    assert kinds <= {"overlay", "tmpfs", "proc", "sysfs", "devtmpfs", "devpts", "mqueue"} | _readonly_kinds(seen)
    assert not [line for line in seen.lines if line.split()[0].startswith(("/old", "/s"))] or "/sys" in seen.output
    assert sh("ls -d /old /s /new", layout=layout).status != 0


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


# ---------------------------------------------------------------------------------------------------- users


@pytest.mark.skipif(not ROOT, reason="makes files of other users")
def test_owners_and_modes_are_those_outside(folder: Path) -> None:
    (folder / "file").touch()
    os.chown(folder / "file", 1234, 5678)
    (folder / "file").chmod(0o640)
    names = (str(folder / "file"), "/", "/tmp", "/etc/shadow")
    script = f"stat -c '%u %g %a' {folder}/file / /tmp /etc/shadow; chown 77 {folder}/file && stat -c %u {folder}/file"
    seen = sh(script, layout="root")
    expected = [f"{s.st_uid} {s.st_gid} {s.st_mode & 0o7777:o}" for s in map(os.stat, names)]
    assert (seen.status, seen.lines) == (0, [*expected, "77"])
    assert (folder / "file").stat().st_uid == 1234


def test_the_top_of_a_mount_keeps_its_mode(layout: str) -> None:
    setup = "mount -t tmpfs -o mode=3751 none /mnt"
    assert prepared(setup, Job(script="stat -c %a /mnt", layout=layout)).lines == ["3751"]


@pytest.mark.skipif(not ROOT, reason="mounts")
def test_the_top_of_a_mount_keeps_its_owner() -> None:
    setup = "mount -t tmpfs -o uid=1234,gid=5678 none /mnt"
    assert prepared(setup, Job(script="stat -c '%u %g' /mnt")).lines == ["1234 5678"]


def test_a_user_is_himself_or_root_inside(layout: str) -> None:
    assert sh("id -u; id -g", layout=layout).lines == [str(os.geteuid()), str(os.getegid())]
    assert sh("id -u; id -g", layout=layout, user="root").lines == ["0", "0"]


@pytest.mark.skipif(ROOT, reason="for root nothing is unreadable")
def test_what_a_user_cannot_read_is_there_and_cannot_be_read() -> None:
    hidden = next((path for path in ("/root", "/lost+found") if not os.access(path, os.R_OK)), None)
    if hidden is None:
        pytest.skip("everything is readable here")
    seen = sh(f"stat -c %F {hidden}; ls {hidden}", layout="rootless")
    assert seen.lines[0] == "directory"
    assert "Permission denied" in seen.output


# ---------------------------------------------------------------------------------------------------- the kernel's


def test_dev_has_what_is_no_hardware_and_nothing_else(layout: str) -> None:
    seen = sh("ls /dev", layout=layout)
    assert " ".join(seen.lines) == "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"


def test_device_files_work(layout: str) -> None:
    script = """
    for each in zero urandom; do head -c 4 /dev/$each | wc -c; done; echo x > /dev/null
    head -c 1 /dev/zero > /dev/full
    """
    seen = sh(script, layout=layout)
    assert seen.lines[:2] == ["4", "4"]
    assert "No space left" in seen.output


def test_a_terminal_can_be_opened(layout: str) -> None:
    code = "import os; a, b = os.openpty(); print(os.ttyname(b)); os.write(a, b'hello\\n'); print(os.read(b, 99))"
    assert sh(f'python3 -c "{code}"', layout=layout).lines == ["/dev/pts/0", "b'hello\\n'"]


@pytest.mark.parametrize("user", ["same", "root"])
def test_no_device_can_be_made(user: str, layout: str) -> None:
    seen = sh("mknod /tmp/isolate-test-device b 1 1", layout=layout, user=user)
    assert seen.status != 0
    assert "Operation not permitted" in seen.output


def test_proc_shows_the_sandbox_alone(layout: str) -> None:
    seen = sh("ls -d /proc/[0-9]* | wc -l; readlink /proc/self/exe; cat /proc/1/comm", layout=layout)
    assert int(seen.lines[0]) <= 4
    assert seen.lines[2] == "isolate-init"


#: Opens for writing, and never writes: the host is no better protected if this finds a hole.
OPENER = """
import os
for top in ("/proc", "/sys"):
    for folder, folders, files in os.walk(top):
        if folder == "/proc":
            folders[:] = [each for each in folders if not each.isdecimal() and each not in ("self", "thread-self")]
        for each in files:
            path = os.path.join(folder, each)
            if not os.path.islink(path) and os.lstat(path).st_mode & 0o222:
                try:
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                except OSError:
                    continue
                print(path)
"""

#: What may be opened: acts on the process that writes, or on its namespaces, only.
HARMLESS = {"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/irq", "/proc/pressure/memory"}


@pytest.mark.skipif(not ROOT, reason="the kernel refuses others")
@pytest.mark.parametrize("user", ["same", "root"])
def test_root_inside_cannot_write_the_settings_of_the_machine(user: str, layout: str, folder: Path) -> None:
    program = folder / "opener.py"
    program.write_text(OPENER)
    seen = sh(f"python3 {program}", layout=layout, user=user)
    assert seen.status == 0
    assert set(seen.lines) - HARMLESS == set()


@pytest.mark.parametrize("user", ["same", "root"])
def test_read_only_trees_cannot_be_made_writable_nor_uncovered(user: str, layout: str) -> None:
    """What is written, should that be possible, is what was there before."""
    script = """
    mount -o remount,rw,bind /proc/sys; mount -o remount,rw /proc/sys; umount /proc/sys; umount -l /proc
    mount -o remount,rw,bind /sys; mount -o remount,rw /sys; umount -l /sys; umount -l /
    for file in /sys/kernel/mm/ksm/run /proc/sys/vm/swappiness; do
        value=$(cat $file); echo $value > $file && echo written: $file
    done
    """
    for each in (script, f"unshare -m sh -c '{script}'"):
        assert "written:" not in sh(each, layout=layout, user=user).output


def test_the_host_has_the_network_settings_that_it_had(layout: str) -> None:
    names = [f"/proc/sys/net/ipv4/{each}" for each in ("ip_unprivileged_port_start", "ping_group_range")]
    before = [Path(name).read_text() for name in names]
    seen = sh(f"cat {names[0]}", layout=layout)
    assert seen.lines == ["0"]
    assert [Path(name).read_text() for name in names] == before


def test_port_80_of_both_loopbacks_is_free_and_ping_is_allowed(layout: str) -> None:
    code = """
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.socket(family) as server:
        server.bind((address, 80)); server.listen()
        with socket.create_connection((address, 80), 5): print(address)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close(); print("ping")
"""
    assert sh(f"python3 -c '{code}'", layout=layout).lines == ["127.0.0.1", "::1", "ping"]


def test_the_host_name_is_the_sandboxs(layout: str) -> None:
    assert sh("uname -n", layout=layout, hostname="elsewhere").lines == ["elsewhere"]
    assert os.uname().nodename != "elsewhere"


def test_with_the_hosts_network_its_interfaces_are_there(layout: str) -> None:
    names = sorted(name for _, name in socket.if_nameindex())
    code = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    assert sh(f'python3 -c "{code}"', layout=layout, network="host").lines == [str(names)]
    assert sh("test -w /sys/kernel && touch /sys/kernel/x", layout=layout, network="host").status != 0


def test_a_socket_or_pipe_of_the_host_leads_nowhere(folder: Path, layout: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{folder}/socket')"
        seen = sh(f'python3 -c "{code}"', layout=layout)
    assert "ConnectionRefusedError" in seen.output


@pytest.mark.skipif(not ROOT, reason="needs a program of root's that gains rights")
def test_a_setuid_program_gives_nothing(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "id").write_bytes(Path("/usr/bin/id").read_bytes())
    (folder / "id").chmod(0o4755)
    code = f"import os; os.setgid(65534); os.setuid(65534); os.execv('{folder}/id', ['id', '-u'])"
    assert sh(f'python3 -c "{code}"', layout="root").lines == ["65534"]
