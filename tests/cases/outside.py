"""What stands outside while the cases run inside, and whether it still does afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.traces import settled

_libc = ctypes.CDLL(None, use_errno=True)
_SECRET = ctypes.create_string_buffer(b"outside")
_SETTINGS = ("kernel/core_pattern", "kernel/hostname", "kernel/domainname", "vm/overcommit_memory", "vm/swappiness")
_FOLDERS = ("/", "/etc", "/tmp", "/var/tmp", "/var/lib", "/usr/lib", "/root", "/run", "/dev", "/dev/shm", "/dev/mqueue")


class Outside:
    """A folder, servers, a process, locks and shared memory that cases try to reach, and what the machine was like."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.mark = f"isolate-case-{os.getpid()}-{layout.replace('+', '-')}"
        self.folder = folder
        self._key = 0x150A0000 + os.getpid() % 0x8000 * 2
        self._stack = contextlib.ExitStack()
        self._make_files()
        self._serve()
        # It ends with us even if we are killed.
        self._victim = self._stack.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        self._stack.callback(self._victim.kill)
        self._segment = _libc.shmget(self._key, 4096, 0o1600)
        self._stack.callback(_libc.shmctl, self._segment, 0, None)
        self.environment = {name: os.environ.get(name) for name in ("LANG", "LC_ALL", "TZ", "HOME", "USER")}
        self._before = self._look()

    def close(self) -> None:
        self._stack.close()

    def describe(self) -> str:
        """The path of what the cases know of this machine."""
        mask = os.umask(0)
        os.umask(mask)
        known: dict[str, Any] = {
            "mark": self.mark, "lower": str(self.lower), "victim": self._victim.pid, "pid": os.getpid(),
            "address": ctypes.addressof(_SECRET), "shm_key": self._key, "port": self._tcp.getsockname()[1],
            "socket": str(self.lower / "socket"), "umask": mask, "folder": str(self.folder),
            "environment": self.environment,
        }  # fmt: skip
        path = self.folder / f"{self.mark}.json"
        path.write_text(json.dumps(known))
        return str(path)

    def problems(self) -> dict[str, str]:
        """By case, what of it is seen outside."""
        found = {name: problem for name, look in self._looks().items() if (problem := look())}
        now = self._look()
        for name, was in self._before.items():
            if now[name] != was:
                found[name] = f"it was {was!r}, and is {now[name]!r}"
        return found

    def _make_files(self) -> None:
        self.lower = self.folder / "lower"
        (self.lower / "folder").mkdir(parents=True)
        for name in ("file", "folder/file", "hard-1", "locked"):
            (self.lower / name).write_text("outside")
        os.link(self.lower / "hard-1", self.lower / "hard-2")
        os.mkfifo(self.lower / "pipe")
        self._pipe = os.open(self.lower / "pipe", os.O_RDWR | os.O_NONBLOCK)
        self._stack.callback(os.close, self._pipe)
        locked = os.open(self.lower / "locked", os.O_RDWR)
        self._stack.callback(os.close, locked)
        fcntl.flock(locked, fcntl.LOCK_EX)

    def _serve(self) -> None:
        self._tcp = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._udp = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind(self._tcp.getsockname())
        self._unix = [self._stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        with _in_folder(self.lower):  # a path of more than 108 bytes is none of a socket's
            self._unix[0].bind("socket")
        self._unix[1].bind(f"\0{self.mark}")
        for server in (self._tcp, self._udp, *self._unix):
            server.settimeout(0)
        for server in self._unix:
            server.listen()

    def _looks(self) -> dict[str, Callable[[], str]]:
        return {
            "daemon_survives": self._processes_left,
            "kill_all": lambda: "" if self._victim.poll() is None else "a process outside was killed",
            "fifo_lower": lambda: _received(lambda: os.read(self._pipe, 1)),
            "host_localhost_service": lambda: _accepted(self._tcp) or _received(lambda: self._udp.recv(1)),
            "unix_socket_lower": lambda: _accepted(self._unix[0]) or _accepted(self._unix[1]),
            "sysv_shm": self._segments,
            "cgroup_leftover": lambda: " ".join(settled()["cgroups"]),
            "pdeath": lambda: " ".join(settled()["processes"] + settled()["scratch"]),
        }

    def _processes_left(self) -> str:
        """Those with the environment of the cases, once there has been time to end."""
        deadline = time.monotonic() + 30
        while (found := list(_with_environment(self.mark))) and time.monotonic() < deadline:
            time.sleep(0.1)
        return " ".join(found)

    def _segments(self) -> str:
        left = [name for name, call in (("shm", _libc.shmget), ("msg", _libc.msgget)) if _has(call, self._key + 1)]
        return f"{left} of a test" if left else ""

    def _look(self) -> dict[str, object]:
        """What the machine is like, by the case that would change it."""
        tree = _tree(self.lower)
        return {
            **dict.fromkeys(_ON_LOWER, tree),
            "rm_rf_rootdir": sorted({"fixtures_images", "lower"} & set(os.listdir(self.folder))),
            "write_etc": [path for path in self._marked() if not path.startswith(("/tmp", "/var/tmp", "/dev", "/run"))],
            "tmp_private": [path for path in self._marked() if path.startswith(("/tmp", "/var/tmp", "/dev", "/run"))],
            "write_home": os.path.exists(os.path.join(os.path.expanduser("~"), self.mark)),
            "proc_sys_write": [_text(f"/proc/sys/{name}") for name in _SETTINGS],
            "hostname_private": os.uname()[:2],
            "exe_overwrite": hashlib.sha256(Path(os.path.realpath(sys.executable)).read_bytes()).hexdigest(),
            "mount_propagation": [
                line for line in _text("/proc/self/mountinfo").splitlines() if str(self.folder) in line
            ],
            "device_nodes": [
                (name, os.stat(name).st_mode, os.stat(name).st_uid) for name in ("/dev/null", "/dev/zero")
            ],
        }

    def _marked(self) -> list[str]:
        found = []
        for folder in _FOLDERS:
            with contextlib.suppress(OSError):
                found += [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(self.mark)]
        return found


_ON_LOWER = (
    *("delete_lower_file", "rename_lower_dir", "hardlink_copyup", "truncate_chmod_and_times", "open_before_write"),
    *("flock_lower", "symlink_out"),
)


@contextlib.contextmanager
def _in_folder(path: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _accepted(server: socket.socket) -> str:
    try:
        server.accept()
    except BlockingIOError:
        return ""
    return "somebody inside has connected"


def _received(read: Callable[[], bytes]) -> str:
    try:
        return f"{read()!r} came out"
    except BlockingIOError:
        return ""


def _with_environment(mark: str) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    yield f"{entry.name} {(entry / 'comm').read_text().strip()}"


def _has(call: Any, key: int) -> bool:
    return bool(call(key, 0, 0) >= 0 if call is _libc.shmget else call(key, 0) >= 0)


def _tree(top: Path) -> list[tuple[object, ...]]:
    """Each entry below ``top``: name, mode, size, links, change time of its inode, and the text of a file."""
    found: list[tuple[object, ...]] = []
    for path in sorted(top.rglob("*")):
        seen = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found.append((path.name, seen.st_mode, seen.st_size, seen.st_nlink, seen.st_ctime_ns, text))
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        return str(error.errno)
