"""Names of session groups, from which a later session can tell whether their session still lives."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

#: The group that the user's own processes move to while sessions use the group they were in.
SUPERVISOR = "pytest-isolate-supervisor"
PROC = Path("/proc")
#: The inode of the pid namespace that the machine booted with, from which all others are seen: PROC_PID_INIT_INO in the
#: kernel's include/linux/proc_ns.h.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC

_SESSION = re.compile(r"pytest-isolate-(\d+)-(\d+)-(\d+)")


def session_name(proc: Path = PROC) -> str:
    """``pytest-isolate-PIDNS-PID-STARTTIME`` of this process: a pid alone would come to name somebody else in time."""
    pid = os.readlink(proc / "self")
    return f"pytest-isolate-{_pid_namespace(proc)}-{pid}-{start_time(int(pid), proc)}"


def first_process(name: str, proc: Path = PROC) -> int:
    """The pid of the session's first process, an xdist controller perhaps; our own if that is not to be found here."""
    match = _SESSION.fullmatch(name)
    if match is not None:
        namespace, pid, started = map(int, match.groups())
        if namespace == _pid_namespace(proc) and start_time(pid, proc) == started:
            return pid
    return os.getpid()


def session_pid(name: str) -> int | None:
    """The pid in a session's name."""
    match = _SESSION.fullmatch(name)
    return int(match[2]) if match else None


def is_session(name: str) -> bool:
    """Whether a group of this name was made for a session, dead or alive, of any pid namespace."""
    return _SESSION.fullmatch(name) is not None


def is_dead_session(name: str, proc: Path = PROC) -> bool:
    """Whether the session is no more: a process of our pid namespace, or of one that has ended as a whole."""
    match = _SESSION.fullmatch(name)
    if match is None:
        return False
    namespace, pid, started = map(int, match.groups())
    if namespace == _pid_namespace(proc):
        return start_time(pid, proc) != started
    return _has_ended(namespace, proc)


def _has_ended(namespace: int, proc: Path) -> bool:
    """Whether a pid namespace has no process left; False too where we cannot see them all (pid_namespaces(7))."""
    if _pid_namespace(proc) != _FIRST_PID_NAMESPACE:
        return False
    for process in filter(str.isdigit, os.listdir(proc)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, or is a zombie
            try:
                if _pid_namespace(proc, process) == namespace:
                    return False
            except PermissionError:  # of whoever has other rights than we have
                if _is_nested(process, proc):
                    return False
    return True


def _is_nested(process: str, proc: Path) -> bool:
    """Whether a process is in a pid namespace below the first: it has a pid in each (NSpid of proc_pid_status(5))."""
    status = (proc / process / "status").read_text(errors="replace")
    return len(status.partition("\nNSpid:")[2].partition("\n")[0].split()) != 1


def start_time(pid: int, proc: Path = PROC) -> int | None:
    """Field 22 of proc_pid_stat(5): clock ticks from boot to the start of the process; None if there is none."""
    fields = stat_fields(pid, proc)
    return None if fields is None else int(fields[19])


def stat_fields(pid: int, proc: Path = PROC) -> list[str] | None:
    """Fields 3 (state), 4 (ppid), 5 (pgrp), 6 (session) ... of /proc/PID/stat, or None if there is no such process."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the command name may hold blanks and parentheses itself


def _pid_namespace(proc: Path, process: str = "self") -> int:
    return int(re.sub(r"\D", "", os.readlink(proc / process / "ns" / "pid")))
