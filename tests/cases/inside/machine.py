"""What the cases share: what is known of the machine outside, and system calls that Python has no function for."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Written by tests/cases/outside.py, which looks afterwards whether it is still so.
HOST: dict[str, Any] = json.loads(Path(os.environ["ISOLATE_CASES"]).read_text())
#: All that a case leaves is called so.
MARK: str = HOST["mark"]
#: Answers that mean no.
NO = {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOSYS}
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x2000000, 0x10000000, 0x40000000
X86 = os.uname().machine == "x86_64"

libc = ctypes.CDLL(None, use_errno=True)


def answer(call: Callable[[], object]) -> int:
    """The errno of a call of Python's; 0: it was done."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def syscall(number: int, *arguments: int | bytes | ctypes.Array[Any] | None) -> int:
    """The errno of a system call; 0: it was done."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *words) < 0 else 0


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> int:
    words = [text.encode() for text in (source, target, kind)]
    return ctypes.get_errno() if libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None) else 0


def unshare(flags: int) -> int:
    return ctypes.get_errno() if libc.unshare(flags) else 0


def in_child(body: Callable[[], object]) -> object:
    """What ``body`` returns in a process of its own, as JSON has it."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writer, json.dumps(body()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def as_root_of_a_namespace(flags: int) -> int:
    """Become root of a user namespace below the sandbox's, and of others: the errno, if that is refused."""
    uid, gid = os.getuid(), os.getgid()
    if code := unshare(CLONE_NEWUSER | flags):
        return code
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{file}").write_text(text)
    return 0
