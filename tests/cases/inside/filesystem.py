"""Cases: files, mounts and devices."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.cases.inside.machine import (
    CLONE_NEWNS,
    HOST,
    MARK,
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    answer,
    as_root_of_a_namespace,
    in_child,
    libc,
    mount,
)

#: A folder with files, made outside.
LOWER = Path(HOST["lower"])


def _write(folder: str | Path) -> None:
    path = Path(folder, MARK)
    path.write_text("inside")
    assert path.read_text() == "inside"


def _as_allowed(folder: str) -> None:
    """A write where the user may write, and none where he may not."""
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        with pytest.raises(OSError, match=r"\[Errno"):
            _write(folder)
    else:
        _write(folder)


@pytest.mark.parametrize("folder", ["/etc", "/", "/var/lib", "/usr/lib", "/root"])
def test_write_etc(folder: str) -> None:
    _as_allowed(folder)


def test_write_home() -> None:
    _write(os.environ["HOME"])


def test_write_rootdir(pytestconfig: pytest.Config) -> None:
    _write(pytestconfig.rootpath)


@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm", "/run"])
def test_tmp_private(folder: str) -> None:
    _as_allowed(folder)


@pytest.mark.parametrize("turn", range(2))
def test_next_test_sees_nothing(turn: int) -> None:
    for folder in ("/tmp", "/dev/shm", LOWER):
        assert not Path(folder, MARK).exists(), turn
        _write(folder)


def test_delete_lower_file() -> None:
    (LOWER / "file").unlink()
    assert not (LOWER / "file").exists()


def test_rm_rf_rootdir(pytestconfig: pytest.Config) -> None:
    shutil.rmtree(pytestconfig.rootpath, ignore_errors=True)
    assert not (LOWER / "file").exists()


def test_rename_lower_dir() -> None:
    """Without root it is refused as between file systems: docs/parity.md."""
    code = answer(lambda: (LOWER / "folder").rename(LOWER / "renamed"))
    assert code == errno.EXDEV or (code == 0 and (LOWER / "renamed" / "file").exists())


def test_hardlink_copyup() -> None:
    (LOWER / "hard-1").write_text("inside")
    os.link(LOWER / "file", LOWER / "linked")
    (LOWER / "linked").write_text("inside")


def test_truncate_chmod_and_times() -> None:
    os.truncate(LOWER / "file", 0)
    os.chmod(LOWER / "hard-1", 0)
    os.utime(LOWER / "hard-2", (0, 0))
    with suppress(OSError):  # where the file system has no attributes
        os.setxattr(LOWER / "file", "user.isolate", b"x")


def test_open_before_write() -> None:
    """A descriptor that is open for reading goes on to have the lower file; none has a way to write it."""
    with open(LOWER / "file", "rb", buffering=0) as file:
        assert answer(lambda: os.close(os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_TRUNC))) == 0


def test_flock_lower() -> None:
    with open(LOWER / "locked", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # somebody outside has it


def test_fifo_lower() -> None:
    """Somebody outside reads from it."""
    assert answer(lambda: os.close(os.open(LOWER / "pipe", os.O_WRONLY | os.O_NONBLOCK))) == errno.ENXIO


def test_unix_socket_lower() -> None:
    for path in (HOST["socket"], f"\0{MARK}"):
        with socket.socket(socket.AF_UNIX) as client:
            assert answer(partial(client.connect, path)) == errno.ECONNREFUSED


def test_symlink_out() -> None:
    """What a link inside names is what lies inside."""
    (LOWER / "link").symlink_to("/proc/1/root" + str(LOWER / "file"))
    answer(lambda: (LOWER / "link").write_text("inside"))
    (LOWER / "absolute").symlink_to(LOWER / "hard-1")
    (LOWER / "absolute").write_text("inside")


def test_deep_path(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    for _ in range(300):
        os.mkdir("a" * 20)
        os.chdir("a" * 20)
    Path("file").write_text("deep")
    with pytest.raises(OSError, match="too long"):
        os.mkdir("b" * 256)


@pytest.mark.parametrize("user", [pytest.param(who, marks=pytest.mark.isolate(user=who)) for who in ("same", "root")])
def test_device_nodes(user: str) -> None:
    for kind, number in ((stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFCHR, os.makedev(1, 1))):
        path = f"/tmp/{MARK}-{user}"
        assert answer(partial(os.mknod, path, kind | 0o600, number)) == errno.EPERM
    kinds = {name: os.stat(f"/dev/{name}").st_mode for name in os.listdir("/dev")}
    assert [name for name, mode in kinds.items() if stat.S_ISBLK(mode)] == []
    assert {name for name, mode in kinds.items() if stat.S_ISCHR(mode)} <= {
        *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "stdin", "stdout", "stderr")
    }
    with open("/dev/null", "wb") as null, open("/dev/urandom", "rb") as random:
        null.write(random.read(4))


def test_setuid_binary() -> None:
    """No program gains rights: by its mode, its attributes, or where it lies."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["CapAmb"].strip("0"), status["CapInh"].strip("0")) == ("1", "", "")
    for place in ("/", "/tmp", "/dev/shm", os.getcwd(), os.environ["HOME"]):
        assert os.statvfs(place).f_flag & (os.ST_NOSUID | os.ST_NODEV) == os.ST_NOSUID | os.ST_NODEV, place


#: Opened for writing, never written.
SETTINGS = [
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory"),
    *("/proc/sysrq-trigger", "/proc/kcore", "/proc/kmsg", "/proc/mtrr", "/proc/irq/default_smp_affinity"),
    *("/proc/bus/pci", "/sys/kernel/mm/ksm/run", "/sys/power/state", "/sys/kernel/uevent_helper"),
    *("/sys/kernel/debug", "/sys/firmware/efi/efivars", "/sys/fs/cgroup/cgroup.procs", "/dev/mem", "/dev/kmsg"),
    *("/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/uinput", "/dev/loop-control"),
]


@pytest.mark.parametrize("user", [pytest.param(who, marks=pytest.mark.isolate(user=who)) for who in ("same", "root")])
def test_proc_sys_write(user: str) -> None:
    opened = [path for path in SETTINGS if answer(lambda path=path: os.close(os.open(path, os.O_WRONLY))) == 0]  # type: ignore[misc]
    assert opened == [], user


def _uncover() -> list[str]:
    """Try to make writable, to take away, or to mount anew what is read-only: what can be opened for writing then."""
    for point in ("/proc/sys", "/sys", "/proc/sysrq-trigger", "/proc/irq"):
        for flags in (MS_REMOUNT | MS_BIND, MS_REMOUNT):
            mount("none", point, "", flags)
        libc.umount2(point.encode(), 2)
    fresh = f"/tmp/{MARK}-fresh"
    os.makedirs(fresh, exist_ok=True)
    found = []
    for kind in ("proc", "sysfs", "debugfs", "securityfs", "devtmpfs", "tracefs"):
        if mount("none", fresh, kind, MS_RDONLY if kind == "sysfs" else 0) == 0:
            inside = (path.replace("/proc/", f"{fresh}/") for path in SETTINGS if path.startswith("/proc/sys"))
            # A new proc, of the sandbox's processes, is what user namespaces are for; what acts on the machine is not.
            found += [path for path in inside if answer(lambda path=path: os.close(os.open(path, os.O_WRONLY))) == 0]  # type: ignore[misc]
            found += [kind] if kind not in ("proc", "sysfs") else []
            libc.umount2(fresh.encode(), 2)
    return found + [path for path in SETTINGS if answer(lambda path=path: os.close(os.open(path, os.O_WRONLY))) == 0]  # type: ignore[misc]


@pytest.mark.parametrize("user", [pytest.param(who, marks=pytest.mark.isolate(user=who)) for who in ("same", "root")])
def test_remount_rw(user: str) -> None:
    assert in_child(_uncover) == [], user


@pytest.mark.parametrize("user", [pytest.param(who, marks=pytest.mark.isolate(user=who)) for who in ("same", "root")])
def test_remount_rw_in_a_namespace(user: str) -> None:
    assert in_child(lambda: (as_root_of_a_namespace(CLONE_NEWNS), _uncover())[1]) == [], user


@pytest.mark.isolate(user="root")
def test_mount_propagation() -> None:
    """A mount inside, where one can be made, is none of the machine's."""
    target = LOWER / "folder"
    in_child(lambda: (as_root_of_a_namespace(CLONE_NEWNS), mount("none", str(target), "tmpfs"))[1])
    mount("none", str(target), "tmpfs")
