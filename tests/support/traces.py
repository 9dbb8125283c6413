"""What a session of ours can leave on a host."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

#: Found again in a process list; one of our own, as other workers run these tests as well.
NUMBER = str(100_000 + os.getpid())

#: Of pid namespaces, as names of sessions have it.
NAMESPACE = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))

NOTHING: dict[str, list[str]] = {"processes": [], "cgroups": [], "scratch": [], "mounts": []}


def traces() -> dict[str, list[str]]:
    """What a session of ours has left on the host, by kind: what is there now, and was not before any test.

    Somebody may have killed an earlier run with all that belongs to it. A later one sweeps only its own control group.
    """
    return {kind: [trace for trace in found if trace not in BEFORE[kind]] for kind, found in _all_traces().items()}


def _all_traces() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"processes": list(_processes()), "cgroups": [], "scratch": [], "mounts": []}
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = mount.split()[4], mount.partition(" - ")[2].split()[0]
        if kind in ("cgroup", "cgroup2"):
            for path, directories, _ in os.walk(point):
                found["cgroups"] += [f"{path}/{name}" for name in directories if name.startswith("pytest-isolate-")]
        found["mounts"].append(mount)
    for folder in {"/tmp", "/var/tmp", os.environ.get("TMPDIR", "/tmp")}:
        found["scratch"] += [str(path) for path in Path(folder).glob("pytest-isolate*")]
    # What an outer run of this very test suite has, or one beside it, is not left over.
    for kind in ("cgroups", "scratch"):
        found[kind] = [path for path in found[kind] if not _lives(path)]
    return found


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                line = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and (line[:2] == ["sleep", NUMBER] or (_is_orphaned(line) and _is_here(entry))):
                    yield f"{entry.name} {line}"
        except OSError:
            continue


def _is_orphaned(command: list[str]) -> bool:
    """A builder, PID 1 of a sandbox, or a broker, whose pytest has gone. Others belong to runs beside this one."""
    ours = command[0] == "isolate-builder" or any("pytest_isolate.session.network.broker" in word for word in command)
    owner = next((word.removeprefix("for=") for word in command if word.startswith("for=")), None)
    return ours and owner is not None and not Path("/proc", owner).exists()


def _is_here(entry: Path) -> bool:
    """Whether a process is in our pid namespace, or PID 1 of one just below: a run beside this one may have sessions in
    others."""
    numbers = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:")).split()
    return len(numbers) == 2 or (len(numbers) == 3 and numbers[-1] == "1")


def _lives(path: str) -> bool:
    """Whether the session that a group or directory is of goes on, or is of another pid namespace."""
    for part in Path(path).parts:
        if part.startswith("pytest-isolate-") and part.count("-") >= 4:
            namespace, pid = part.split("-")[2:4]
            return namespace != NAMESPACE or Path(f"/proc/{pid}").exists()
    return True  # a supervisor's leaf: its processes are alive by definition


def settled(timeout: float = 10) -> dict[str, list[str]]:
    """What is left after some patience: the builder goes on for a moment after pytest's death."""
    deadline = time.monotonic() + timeout
    while any((left := traces()).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


#: What was there before any test.
BEFORE = _all_traces()
