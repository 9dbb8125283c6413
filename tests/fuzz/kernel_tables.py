"""Fuzzes what the kernel tells: tables of mounts, groups, sockets and processes, with every name that it allows.

What it lets others name is fuzzed, not the form of its tables, so a name must come out as it went in.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pytest_isolate.cgroups.hierarchies import Version, hierarchies, own_path
from pytest_isolate.linux import mountinfo, procfs, tcp_table, unix_table
from tests.fuzz.parser import Parser, Taker

_PID = 4711
_MANGLED = re.compile(rb"[ \t\n\\#]")  # mangle() of fs/proc_namespace.c; seq_path() has no "#", which does no harm
_KINDS = ("ext4", "overlay", "tmpfs", "proc", "cgroup", "cgroup2", "fuse.sshfs")


@cache
def _proc() -> Path:
    """A made-up /proc, on a tmpfs where there is one."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    proc = Path(tempfile.mkdtemp(prefix="isolate-fuzz-", dir=shm))
    atexit.register(shutil.rmtree, proc, ignore_errors=True)
    (proc / "self" / "net").mkdir(parents=True)
    (proc / str(_PID)).mkdir()
    return proc


def _mangle(name: bytes) -> bytes:
    return _MANGLED.sub(lambda found: rb"\%03o" % found[0][0], name)


def _names(taker: Taker, number: int) -> list[bytes]:
    """Names that the kernel takes: anything but a NUL and a slash."""
    names = []
    for _ in range(number):
        name = re.sub(rb"[\0/]", b"", taker.take(taker.below(40)))[:255]
        names.append(name if name not in (b"", b".", b"..") else b"x")
    return names


def _try_mounts(data: bytes) -> None:
    taker = Taker(data)
    lines, points, sources = [], [], []
    for number in range(1 + taker.below(8)):
        kind = _KINDS[taker.below(len(_KINDS))].encode()
        parent, optional = taker.below(9), [b"", b" shared:7", b" shared:1 master:2"][taker.below(3)]
        path, root, source, option = _names(taker, 4)
        points.append(b"/" + path)
        sources.append(source)
        fields = [b"%d" % (number + 1), b"%d" % parent, b"0:%d" % taker.below(256), _mangle(b"/" + root),
                  _mangle(b"/" + path), b"rw,noexec" + optional, b"-", kind, _mangle(source),
                  b"rw,x=" + _mangle(option)]  # fmt: skip
        lines.append(b" ".join(fields))
    mounts = mountinfo.parse(b"\n".join(lines) + b"\n")
    assert [os.fsencode(mount.point) for mount in mounts] == points
    assert [os.fsencode(mount.source) for mount in mounts] == sources
    seen = mountinfo.visible(mounts)
    assert len({mount.number for mount in seen}) == len(seen)
    assert {*seen} <= {*mounts}
    assert [mount.point.split("/") for mount in seen] == sorted(mount.point.split("/") for mount in seen)


def _mount_seeds() -> Iterator[bytes]:
    yield b"\3\0\0\0\4usr\0\0\0\0\1\2\0\5a b\\c\0\4root\5/dev/\2ro"
    yield b"\7" + b"\1\1\1\3a\nb\3\t\r\n\4\\040\3a,b\2" * 6
    yield bytes(range(256))
    yield b"\5" + b"\4\0\0\6\xff\xfe\xf0 -\3 - \3-,-\1" * 6


def _try_groups(data: bytes) -> None:
    """The group of this process by /proc/self/cgroup is found at the mount that has it."""
    taker, proc = Taker(data), _proc()
    groups = [b"/" + name.replace(b"\n", b"") for name in _names(taker, 2)]  # cgroup_mkdir() takes no line feed
    nested = [group + b"/a" * taker.below(3) for group in groups]
    root = [b"/", nested[0], b"/..", groups[1]][taker.below(4)]
    where = b"/".join([os.fsencode(proc), *(name for name in _names(taker, 1))])
    lines = [b"40 1 0:30 %s %s rw - cgroup2 x rw" % (_mangle(root), _mangle(where)),
             b"41 1 0:31 / /nowhere rw,nosuid shared:7 - cgroup cgroup rw,memory"]  # fmt: skip
    (proc / "self" / "mountinfo").write_bytes(b"\n".join(lines) + b"\n")
    (proc / "self" / "cgroup").write_bytes(b"1:name=x.y:/\n4:memory:%s\n0::%s\n" % (nested[1], nested[0]))
    found = {one.version: one for one in hierarchies(proc)}
    path = nested[0].decode("utf-8", "replace")
    assert found[Version.V2].path == path == own_path(proc, Version.V2)
    assert os.fsencode(found[Version.V2].mount) == where
    assert found[Version.V1].path == own_path(proc, Version.V1, frozenset({"memory"}))
    own = found[Version.V2].own
    assert own is None or own.startswith(found[Version.V2].mount)


def _group_seeds() -> Iterator[bytes]:
    yield b"\4a:b\r\5 x \x0b\x0c\1\0\1\3a b"
    yield b"\6\xe2\x80\xa8\x1c\x1d\x85\3..a\2\2\2\6\\040\\\\x"
    yield b"\x0dx (deleted)\0\0\0\0\0"


def _try_unix(data: bytes) -> None:
    """A path that may be anything: no line is made up by it that is not a path's own, and none breaks the table."""
    taker, proc = Taker(data), _proc()
    paths = [b"/" + re.sub(rb"\0", b"", taker.take(taker.below(107))) for _ in range(1 + taker.below(5))]
    rows = [b"%016x: 00000002 00000000 00010000 0001 01 %5d %s" % (number, 100 + number, path)
            for number, path in enumerate(paths)]  # fmt: skip
    head = b"Num       RefCount Protocol Flags    Type St Inode Path"
    (proc / "self" / "net" / "unix").write_bytes(b"\n".join([head, *rows]) + b"\n")
    found = {inode: path for path, inode in unix_table.bound(proc)}
    for number, path in enumerate(paths):
        if b"\n" not in path and b"\r" not in b"".join(paths):
            shown = found.get(100 + number)
            forged = any(b"\n" in other for other in paths)
            assert forged or shown == path.decode("utf-8", "replace"), (path, shown)


def _unix_seeds() -> Iterator[bytes]:
    yield b"\2\x0arun/x.sock\4a b\n"
    yield b"\1\x50x\n0000000000000000: 00000002 00000000 00010000 0001 01    12 /forged"
    yield b"\3\5\xff\xfe\r\x85\x1c\3   "


def _try_tcp(data: bytes) -> None:
    taker, proc = Taker(data), _proc()
    rows = []
    for number in range(taker.below(5)):
        address = taker.take(16 if (six := taker.below(2)) else 4).hex().upper().encode()
        port, state = taker.below(65536), b"0A" if taker.below(2) else b"01"
        rows.append((six, b"%4d: %s:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0 "
                    b"100 0 0 10 0" % (number, address, port, state, taker.below(65536), number)))  # fmt: skip
    for six, name in enumerate(("tcp", "tcp6")):
        lines = [b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"]
        text = b"\n".join(lines + [row for kind, row in rows if kind == six]) + b"\n"
        (proc / "self" / "net" / name).write_bytes(text)
    for listener in tcp_table.listening(proc):
        host, found = tcp_table.decode(listener.address)
        assert 0 <= found < 65536, found
        assert host.version == (4 if len(listener.address) < 20 else 6)


def _try_processes(data: bytes) -> None:
    """A process's name may have 15 bytes of anything, its command line whatever it likes."""
    taker, proc = Taker(data), _proc()
    name, words = re.sub(rb"\0", b"", taker.take(taker.below(16))), taker.rest()
    fields = b" ".join([b"S", b"1", b"2", b"3", *[b"0"] * 15, b"77", b"0"])
    (proc / str(_PID) / "stat").write_bytes(b"%d (%s) %s\n" % (_PID, name, fields))
    (proc / str(_PID) / "cmdline").write_bytes(words)
    assert procfs.start_time(_PID, proc) == 77
    assert procfs.parents(proc) == {_PID: 1}
    served = procfs.served(_PID, proc)
    assert served is None or b"\0for=%d" % served in re.sub(rb"=0+(\d)", rb"=\1", words)


def _process_seeds() -> Iterator[bytes]:
    yield b"\x08a) S 1 (isolate-builder\x001\x00for=12\x00below\0"
    yield b"\x0f) R 9 9 9 9 9 \nxisolate\0for=" + b"9" * 40 + b"\0"


KERNEL_TABLES = (
    Parser(name="mounts", try_one=_try_mounts, seeds=_mount_seeds),
    Parser(name="groups", try_one=_try_groups, seeds=_group_seeds),
    Parser(name="unix-sockets", try_one=_try_unix, seeds=_unix_seeds),
    Parser(name="tcp-sockets", try_one=_try_tcp, seeds=lambda: iter([b"\4\0\1\0\0\1PP\1\1" + b"\1" * 40])),
    Parser(name="processes", try_one=_try_processes, seeds=_process_seeds),
)
