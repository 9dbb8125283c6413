"""Processes as /proc shows them (proc(5)): state, start, memory, who descends from whom."""

from __future__ import annotations

import errno
import mmap
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls

PROC = Path("/proc")
os.fspath(PROC)  # now it is kept: from Python 3.12 on pathlib asks os.path.join, which a test may have patched
_PAGE = 4096
_PF_EXITING = 0x4  # include/linux/sched.h
_STATM = ("size", "resident", "shared", "text", "lib", "data", "dirty")  # in pages (proc_pid_statm(5))


def read(pid: int, name: str) -> str:
    """The first page of a file of the process's; "" if the process has ended, or we may not look at it."""
    try:
        return files.read_bytes(f"/proc/{pid}/{name}", most=_PAGE).decode("utf-8", "replace")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES):
            return ""
        raise


def state(pid: int) -> str:
    """One letter of proc_pid_stat(5); "" if it has ended."""
    return next(iter(_split_stat(read(pid, "stat"))), "")


def is_exiting(pid: int) -> bool:
    """Whether it has ended, or its end has begun: PF_EXITING of ``flags``, field 9 of proc_pid_stat(5)."""
    fields = _split_stat(read(pid, "stat"))
    return not fields or bool(int(fields[6]) & _PF_EXITING)


def start_time(pid: int, proc: Path = PROC) -> int | None:
    """Field 22 of proc_pid_stat(5): clock ticks from boot to the start of the process; None if there is none."""
    fields = stat_fields(pid, proc)
    return None if fields is None else int(fields[19])


def stat_fields(pid: int, proc: Path = PROC) -> list[str] | None:
    """Fields 3 (state), 4 (ppid), 5 (pgrp), 6 (session) ... of /proc/PID/stat, or None if there is no such process."""
    try:
        text = files.read_text(f"{proc}/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _split_stat(text)


def _split_stat(text: str) -> list[str]:
    return text.rpartition(")")[2].split()  # the command name may hold blanks and parentheses itself


def parents(proc: Path = PROC) -> dict[int, int]:
    """The parent of each process that we may look at."""
    found = {}
    for name in calls.listdir(proc):
        if name.isdigit():
            with suppress(OSError):
                if fields := stat_fields(int(name), proc):
                    found[int(name)] = int(fields[1])
    return found


def served(pid: int, proc: Path = PROC) -> int | None:
    """The pytest that a process of ours works for: it is nobody's child, so that it says by its words (``for=PID``)."""
    with suppress(OSError):
        line = files.read_bytes(f"{proc}/{pid}/cmdline")
        if b"isolate" in line and (found := re.search(rb"\0for=(\d+)(\0|$)", line)):
            return int(found[1])
    return None


def descendants(first: int, parents: dict[int, int]) -> list[int]:
    """The process ``first`` and all that descend from it, each after its parent."""
    found: dict[int, None] = {}
    generation = [first]
    while generation:
        found |= dict.fromkeys(generation)
        # A pid that is used again while /proc is read may seem to descend from its own child.
        generation = [pid for pid, parent in parents.items() if parent in generation and pid not in found]
    return list(found)


def members(pid: int) -> list[int]:
    """Processes of the pid namespace whose PID 1 is ``pid``, without it, from /proc: where no cgroup lists them."""
    try:
        wanted = calls.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return []
    found = []
    for name in calls.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and int(name) != pid and calls.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                found.append(int(name))
    return found


def pid_namespace(proc: Path = PROC, process: str = "self") -> int:
    """The inode of a process's pid namespace."""
    return int(re.sub(r"\D", "", calls.readlink(f"{proc}/{process}/ns/pid")))


def own_memory(kind: Literal["size", "resident", "data"]) -> int:
    """Bytes of this process's memory: mapped, resident, or data and stack (proc_pid_statm(5))."""
    return int(files.read_bytes("/proc/self/statm").split()[_STATM.index(kind)]) * mmap.PAGESIZE
