"""Asking systemd for a scope of our own: a group that it has delegated to us (systemd.resource-control(5), Delegate=).

The call is that of ``systemd-run --scope``, for processes that run already. It goes through busctl, which speaks to
either bus without a D-Bus library; where busctl or the bus is missing, discovery goes on without a scope.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.hierarchies import Version, own_path
from pytest_isolate.cgroups.refusals import SCOPE, Refusal
from pytest_isolate.cgroups.session_names import session_pid
from pytest_isolate.linux import procfs
from pytest_isolate.linux.calls import calls

#: Runs a command, and returns its exit status and its output; OSError if there is no such program.
Runner = Callable[[Sequence[str]], tuple[int, str]]
_SECONDS = 5.0


def run(command: Sequence[str]) -> tuple[int, str]:
    """The :data:`Runner` proper."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command line
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_SECONDS, check=False, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {_SECONDS:g} s"
    return done.returncode, done.stdout.strip()


def start_scope(session: str, mount: str, proc: Path, runner: Runner = run, *, uid: int | None = None) -> None:
    """Move the session's processes into a delegated scope of their own.

    All of them move, so that the first xdist worker that calls brings all there: the unit's name is the session's, and
    the others find that it exists.

    :param mount: where v2 is mounted.
    :raises Refusal: if that can't be had, or would free the tests of a limit that holds now.
    """
    uid = calls.getuid() if uid is None else uid
    unit = f"{session}.scope"
    before = own_path(proc, Version.V2) or ""
    lifted = limit_lifted(mount, before, uid)
    if lifted:
        raise Refusal(f"a systemd scope would lift the limit {lifted}", f"If that is what you want: {SCOPE}.")
    try:
        status, output = runner(command(unit, members(session, proc), user=uid != 0))
    except OSError as error:
        raise Refusal(f"cannot run busctl: {error.strerror or error}", f"{SCOPE}.") from error
    if status and "already loaded" not in output:  # org.freedesktop.systemd1.UnitExists, busctl shows its text
        raise Refusal(f"systemd gives no scope: busctl says {output!r} (status {status})", f"{SCOPE}.")
    deadline = calls.monotonic() + _SECONDS  # the reply only says that the job is queued
    while not (own_path(proc, Version.V2) or "").endswith(f"/{unit}"):
        if calls.monotonic() > deadline:
            reason = f"systemd took the job, but did not move us to {unit} within {_SECONDS:g} s"
            raise Refusal(reason, f"{SCOPE}.")
        calls.sleep(0.01)


def command(unit: str, pids: Sequence[int], *, user: bool) -> list[str]:
    """StartTransientUnit of org.freedesktop.systemd1(5): name, mode, properties (name, variant), no auxiliary units."""
    properties = [
        ("Description", "s", "isolated pytest session"),
        ("Delegate", "b", "true"),
        ("CollectMode", "s", "inactive-or-failed"),
        ("PIDs", "au", str(len(pids)), *map(str, pids)),
    ]
    return [
        "busctl", "--user" if user else "--system", "--quiet", "call",
        "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
        "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail",
        str(len(properties)), *(word for one in properties for word in one), "0",
    ]  # fmt: skip


def members(session: str, proc: Path) -> list[int]:
    """The session's leading process and all that descend from it, or work for one that does."""
    parents, leader = procfs.parents(proc), session_pid(session)
    parents |= {pid: pytest for pid in parents if (pytest := procfs.served(pid, proc))}
    return procfs.descendants(leader, parents) if leader in parents else []


def limit_lifted(mount: str, path: str, uid: int) -> str | None:
    """The first finite limit that holds for the group ``path`` but would not for a scope, as ``FILE=VALUE``.

    A scope lies in user@UID.service of the user, or in system.slice; what both share with ``path`` stays in force.
    """
    target = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice" if uid else "/system.slice"
    while path not in ("", "/") and not f"{target}/".startswith(f"{path}/"):
        for file in ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "pids.max", "cpuset.cpus"):
            value = cgroupfs.slurp_all(f"{mount}{path}/{file}").strip()
            if value and not value.startswith("max"):
                return f"{mount}{path}/{file}={value}"
        path = path.rpartition("/")[0]
    return None
