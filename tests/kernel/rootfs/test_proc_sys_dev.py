"""What the kernel makes: /proc, /sys, /dev, host name and network; and sockets and pipes of the host."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.in_sandbox import ROOT, sh, standing

pytestmark = pytest.mark.needs("userns", "overlay")


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


@pytest.mark.parametrize("user", ["same", "root"])
def test_what_is_done_to_a_device_file_stays_inside(user: str, layout: str) -> None:
    before = os.stat("/dev/full")
    try:
        other = int(before.st_mtime) + 60
        script = f"chown 1:1 /dev/full; touch -d @{other} /dev/full; head -c 1 /dev/zero > /dev/full"
        seen = sh(script, layout=layout, user=user)
        after = os.stat("/dev/full")
    finally:
        if os.stat("/dev/full").st_uid != before.st_uid:
            os.chown("/dev/full", before.st_uid, before.st_gid)
        if os.stat("/dev/full").st_mtime_ns != before.st_mtime_ns:
            os.utime("/dev/full", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime == before.st_mtime
    assert "No space left" in seen.output


def test_shared_memory_of_the_host_is_seen_and_kept_from_the_test(layout: str) -> None:
    with tempfile.NamedTemporaryFile("w+", dir="/dev/shm", prefix="isolate-test-") as file:
        file.write("made outside\n")
        file.flush()
        seen = sh(f"cat {file.name}; echo inside > {file.name}; cat {file.name}; touch {file.name}-new", layout=layout)
        assert seen.lines == ["made outside", "inside"]
        assert Path(file.name).read_text() == "made outside\n"
        assert not Path(f"{file.name}-new").exists()


@pytest.mark.parametrize("user", ["same", "root"])
def test_shared_memory_is_seen_with_it_as_temporary_folder(user: str, layout: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="isolate-test-") as folder:
        seen = sh(f"touch {folder}/x && ls {folder}", layout=layout, important=(folder, "/dev/shm"), user=user)
    assert seen.lines == ["x"]


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


def test_the_first_process_holds_nothing_that_leads_out(layout: str) -> None:
    with standing(layout) as init:
        found = _descriptors(init)
        end = time.monotonic() + 30
        while len(found) > 3 and time.monotonic() < end:  # its scratch space is closed once the builder has it
            found = _descriptors(init)
    assert found == [
        "anon_inode:[pidfd]",  # pytest's, which refuses signals out of the pid namespace
        "anon_inode:[signalfd]",
        "socket",  # to the builder
    ]


def _descriptors(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(re.sub(r":\[\d+\]", "", os.readlink(link)))
    return sorted(found)


@pytest.mark.skipif(not ROOT, reason="a user's may be looked into, and has no more rights than he")
@pytest.mark.parametrize("user", ["same", "root"])
def test_the_first_process_of_roots_sandbox_cannot_be_looked_into(user: str) -> None:
    seen = sh("readlink /proc/1/fd/*; ls /proc/1/root/; cat /proc/1/mem", layout="root", user=user)
    assert [line.rpartition(": ")[2] for line in seen.lines] == 2 * ["Permission denied"]  # readlink says nothing


#: Opens for writing, and never writes; sets the mode that a file has: the host is no worse off if this finds a hole.
SETTER = """
import os
for top in ("/proc", "/sys"):
    for folder, folders, files in os.walk(top):
        if folder == "/proc":
            folders[:] = [each for each in folders if not each.isdecimal() and each not in ("self", "thread-self")]
        for path in [folder, *(os.path.join(folder, each) for each in files)]:
            if os.path.islink(path) or path == "/proc":
                continue
            mode = os.lstat(path).st_mode
            try:
                if os.path.isfile(path) and mode & 0o222:
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                    print("opened", path)
                os.chmod(path, mode & 0o7777)
                print("changed", path)
            except OSError:
                continue
print("looked")
"""


@pytest.mark.skipif(not ROOT, reason="the kernel refuses others")
@pytest.mark.parametrize("user", ["same", "root"])
def test_root_inside_cannot_write_the_settings_of_the_machine(user: str, layout: str, folder: Path) -> None:
    program = folder / "setter.py"
    program.write_text(SETTER)
    seen = sh(f"python3 {program}", layout=layout, user=user)
    assert seen.lines == ["looked"]


def test_what_processes_have_in_proc_is_theirs(layout: str) -> None:
    seen = sh("echo renamed > /proc/self/comm; cat /proc/self/oom_score_adj > /proc/self/oom_score_adj", layout=layout)
    assert (seen.status, seen.output) == (0, "")


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
