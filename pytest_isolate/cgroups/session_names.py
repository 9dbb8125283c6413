"""Names of session groups, from which a later session can tell whether their session still lives."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.procfs import PROC, pid_namespace, start_time

#: The group that the user's own processes move to while sessions use the group they were in.
SUPERVISOR = "pytest-isolate-supervisor"
#: The inode of the pid namespace that the machine booted with, from which all others are seen: PROC_PID_INIT_INO in the
#: kernel's include/linux/proc_ns.h.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_SESSION = re.compile(r"pytest-isolate-(\d+)-(\d+)-(\d+)")


def session_name(proc: Path = PROC) -> str:
    """``pytest-isolate-PIDNS-PID-STARTTIME`` of this process: the kernel gives a pid to another process in time."""
    pid = calls.readlink(f"{proc}/self")
    return f"pytest-isolate-{pid_namespace(proc)}-{pid}-{start_time(int(pid), proc)}"


def first_process(name: str, proc: Path = PROC) -> int:
    """The pid of the session's first process, an xdist controller perhaps; our own if that is not to be found here."""
    match = _SESSION.fullmatch(name)
    if match is not None:
        namespace, pid, started = map(int, match.groups())
        if namespace == pid_namespace(proc) and start_time(pid, proc) == started:
            return pid
    return calls.getpid()


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
    if namespace == pid_namespace(proc):
        return start_time(pid, proc) != started
    return _has_ended(namespace, proc)


def _has_ended(namespace: int, proc: Path) -> bool:
    """Whether a pid namespace has no process left; False too where we cannot see them all (pid_namespaces(7))."""
    if pid_namespace(proc) != _FIRST_PID_NAMESPACE:
        return False
    for process in filter(str.isdigit, calls.listdir(proc)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, or is a zombie
            try:
                if pid_namespace(proc, process) == namespace:
                    return False
            except PermissionError:  # of a process with other rights than ours
                if _is_nested(process, proc):
                    return False
    return True


def _is_nested(process: str, proc: Path) -> bool:
    """Whether a process is in a pid namespace below the first: it has a pid in each (NSpid of proc_pid_status(5))."""
    status = files.read_text(f"{proc}/{process}/status")
    return len(status.partition("\nNSpid:")[2].partition("\n")[0].split()) != 1
