"""A made-up machine: its /proc, with cgroup file systems that are plain directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_isolate.cgroups.hierarchies import hierarchies

ME = 4711


class Host:
    """A machine's /proc, with cgroup file systems that are plain directories."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / str(ME)).mkdir(parents=True)
        (self.proc / "self").symlink_to(str(ME))
        self.in_pid_namespace(ME, 99)
        self.process(ME, ppid=1, sid=ME, start=500)
        self._lines: list[str] = []
        self.place()

    def in_pid_namespace(self, pid: int, namespace: int) -> None:
        link = self.proc / str(pid) / "ns" / "pid"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"pid:[{namespace}]")

    def process(
        self, pid: int, ppid: int, sid: int, start: int = 1, *, words: Sequence[str] = (), flags: int = 0
    ) -> None:
        name = words[0] if words else "a) b (c"
        directory = self.proc / str(pid)
        directory.mkdir(exist_ok=True)
        fields = ["S", str(ppid), str(pid), str(sid), "0", "0", str(flags), *["0"] * 12, str(start), "0"]
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (directory / "comm").write_text(f"{name}\n")
        (directory / "cmdline").write_text("".join(f"{word}\0" for word in words))

    def mount(self, where: str, kind: str, options: str = "rw", root: str = "/", device: str = "0:30") -> Path:
        place = self.root / where
        place.mkdir(parents=True, exist_ok=True)
        shown = str(place).replace(" ", "\\040")
        self._lines.append(f"{30 + len(self._lines)} 1 {device} {root} {shown} rw,relatime - {kind} {kind} {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(self._lines) + "\n")
        return place

    def place(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        (self.proc / "self" / "mountinfo").touch()

    def look(self) -> dict[str, str | None]:
        return {",".join(sorted(one.controllers)) or "v2": one.own for one in hierarchies(self.proc)}
