"""What runs of ours can leave behind on the machine, counted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds: the builder removes groups, and the kernel frees namespaces, a moment later.
PATIENCE = 60.0
#: In the environment of all our runs.
MARKER = "ENDURANCE_MARKER"
_SLABS = ("net_namespace", "mnt_cache", "pid_namespace", "user_namespace")


@dataclass
class Machine:
    """Looks at all that our runs could have left."""

    folder: Path  #: their folder for temporary files
    sessions: list[int] = field(default_factory=list)  #: pids of all pytests of ours so far
    _before: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = self._count()

    def left(self) -> dict[str, int]:
        """What is more than before any run, once it has had time to go."""
        until = time.monotonic() + PATIENCE
        while True:
            now = self._count()
            more = {name: number - self._before[name] for name, number in now.items() if number > self._before[name]}
            if not more or time.monotonic() > until:
                return more
            time.sleep(0.2)

    def _count(self) -> dict[str, int]:
        return {
            "processes": len(self.processes()),
            "mounts": sum(str(self.folder) in line or "isolate" in line for line in _lines("/proc/self/mountinfo")),
            "control groups": sum(self._is_ours(name) for name in _groups()),
            "folders": self._folders(),
            "network devices": len(os.listdir("/sys/class/net")),
        }

    def _folders(self) -> int:
        own = [name for name in os.listdir(self.folder) if not name.startswith("pytest-of-")]
        others = [name for place in ("/tmp", "/var/tmp", "/dev/shm") for name in os.listdir(place)]
        return len(own) + sum(map(self._is_ours, others))

    def processes(self) -> list[int]:
        """Those that live, and are a run of ours or beside one."""
        marker, own = f"{MARKER}={os.getpid()}".encode(), os.getpid()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                ours = marker in (entry / "environ").read_bytes() or self._serves(entry)
                if ours and int(entry.name) != own and _state(entry) != "Z":
                    found.append(int(entry.name))
            except OSError:  # it has ended, or is another user's
                continue
        return found

    def _serves(self, entry: Path) -> bool:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return any(word.startswith(b"for=") and int(word[4:]) in self.sessions for word in words if word[4:].isdigit())

    def _is_ours(self, name: str) -> bool:
        return name.startswith("pytest-isolate-") and any(f"-{pid}-" in name for pid in self.sessions)


def slabs() -> dict[str, int]:
    """Objects of the kernel for namespaces, and all of its memory that it cannot give back. Of the whole machine."""
    found = {}
    for line in _lines("/proc/slabinfo"):
        name, *numbers = line.split()
        if name in _SLABS:
            found[f"slab {name}"] = int(numbers[0])
    for line in _lines("/proc/meminfo"):
        if line.startswith("SUnreclaim:"):
            found["slab, all that stays, MB"] = int(line.split()[1]) // 1024
    return found


def _groups() -> Iterable[str]:
    tops = [line.split()[1] for line in _lines("/proc/self/mounts") if line.split()[2] in ("cgroup", "cgroup2")]
    return (name for top in tops for _, inside, _ in os.walk(top) for name in inside)


def _state(entry: Path) -> str:
    return (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:  # slabinfo is root's
        return ()
