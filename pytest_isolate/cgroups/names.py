"""Names of session groups, from which a later session can tell whether their session still lives."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: The group that the user's own processes move to while sessions use the group they were in.
SUPERVISOR = "pytest-isolate-supervisor"
PROC = Path("/proc")

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
    """Whether the session is of our pid namespace and is no more; of other namespaces we can't know."""
    match = _SESSION.fullmatch(name)
    if match is None:
        return False
    namespace, pid, started = map(int, match.groups())
    return namespace == _pid_namespace(proc) and start_time(pid, proc) != started


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


def _pid_namespace(proc: Path) -> int:
    return int(re.sub(r"\D", "", os.readlink(proc / "self" / "ns" / "pid")))
