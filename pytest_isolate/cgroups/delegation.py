"""Making a v2 group fit for sessions below it, and undoing that.

The kernel lets a group hand controllers to its children only while it holds no processes itself (cgroups(7), "no
internal processes"; the root is exempt). A user's delegated scope does hold some: the shell, pytest. They move to a
leaf below it, where the scope's own limits go on holding for them, and back when the last session is over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.hierarchies import Version
from pytest_isolate.cgroups.refusals import ABSENT, DELEGATE, SCOPE, Refusal, because
from pytest_isolate.cgroups.session_names import SUPERVISOR, is_session
from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.procfs import served, stat_fields

CONTROLLERS = ("memory", "pids", "cpu", "io", "cpuset")
_RECORD = "user.pytest_isolate"  # what we enabled, kept on the group itself (user xattrs on cgroups: Linux 5.7)
_EXITING = 0x4  # PF_EXITING of the kernel's linux/sched.h, among the flags of proc_pid_stat(5)
_ROUNDS = 8  # with processes that live: one may fork while its parent is moved
_ENDING_SECONDS = 10.0  # for processes that are ending


class Delegation:
    """The use of one v2 group by sessions. Call :meth:`enter` and :meth:`leave` under the group's lock."""

    def __init__(self, base: str, proc: Path) -> None:
        self.base = base
        self._proc = proc
        self._leaf = f"{base}/{SUPERVISOR}"
        self._enabled: set[str] = set()

    def enter(self) -> dict[str, Refusal]:
        """Enable every controller there is for the children of the group.

        :return: the controllers that could not be enabled.
        :raises Refusal: if the group can't have children of ours at all.
        """
        available = cgroupfs.get(f"{self.base}/cgroup.controllers").split()
        if not set(available) & set(CONTROLLERS):
            shown = f"only {' '.join(available)}" if available else "none"
            reason = f"{self.base}/cgroup.controllers names no controller that limits need ({shown})"
            raise Refusal(reason, self._remedy(CONTROLLERS))
        if not calls.access(self.base, os.W_OK):
            raise because(f"make a group in {self.base}", _access_error(self.base), Version.V2)
        on = cgroupfs.get(f"{self.base}/cgroup.subtree_control").split()
        has = f"(it has: {' '.join(available)})"
        lacks = {
            name: Refusal(f"{self.base}/cgroup.controllers lacks {name} {has}", self._remedy([name]))
            for name in CONTROLLERS
            if name not in available
        }
        wanted = [name for name in CONTROLLERS if name in available and name not in on]
        if wanted:
            lacks |= self._enable(wanted)
        return lacks

    def leave(self) -> None:
        """If no session uses the group any more: disable what was enabled for them, and move its processes back."""
        others = [name for name in cgroupfs.children(self.base) if name != SUPERVISOR]
        if any(is_session(name) for name in others):
            return
        if not others:  # a child that is not ours may rely on the controllers by now
            moved = files.is_directory(self._leaf)
            enabled = cgroupfs.get(f"{self.base}/cgroup.subtree_control").split() if moved else self._read_record()
            self._disable(enabled)
        with suppress(OSError):
            self._move(self._leaf, self.base)
            cgroupfs.rmdir(self._leaf)

    def _remedy(self, names: Iterable[str]) -> str:
        """What to do where the group has none of ``names``: a group above may have one to hand down."""
        top = self.base
        while files.exists(f"{os.path.dirname(top)}/cgroup.controllers"):
            top = os.path.dirname(top)
        return ABSENT if set(names).isdisjoint(cgroupfs.slurp_all(f"{top}/cgroup.controllers").split()) else DELEGATE

    def _enable(self, wanted: list[str]) -> dict[str, Refusal]:
        is_root = not files.exists(f"{self.base}/cgroup.type")
        crowd = () if is_root else cgroupfs.pids(self.base)
        if crowd:
            self._move_out(crowd)
        lacks, enabled = {}, []
        for name in wanted:
            try:
                self._switch(f"+{name}")
                enabled.append(name)
            except OSError as error:
                lacks[name] = because(f"enable {name} in {self.base}/cgroup.subtree_control", error, Version.V2)
        self._enabled.update(enabled)
        with suppress(OSError):
            calls.setxattr(self.base, _RECORD, " ".join(sorted({*self._read_record(), *enabled})).encode())
        if crowd and not enabled:
            self.leave()
        return lacks

    def _switch(self, change: str) -> None:
        """EBUSY is also what a group answers as long as processes that are ending have not left it."""
        patience = _Patience()
        while True:
            try:
                cgroupfs.put(f"{self.base}/cgroup.subtree_control", change)
            except OSError as error:
                if error.errno != errno.EBUSY or not patience.waits_for(cgroupfs.pids(self.base), self._proc):
                    raise
            else:
                return

    def _disable(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                self._switch(f"-{name}")
        self._enabled.clear()
        with suppress(OSError):
            calls.removexattr(self.base, _RECORD)

    def _read_record(self) -> set[str]:
        try:
            return set(calls.getxattr(self.base, _RECORD).decode().split())
        except OSError:
            return set(self._enabled)

    def _move_out(self, crowd: Sequence[int]) -> None:
        if strangers := self._find_strangers(crowd):
            shown = ", ".join(_describe(pid, self._proc) for pid in strangers[:3])
            raise Refusal(
                f"{self.base} holds processes that are not of this session ({shown}), "
                "so its controllers can't be handed down",
                f"{SCOPE}, which gives pytest a group of its own.",
            )
        try:
            with suppress(FileExistsError):
                calls.mkdir(self._leaf, 0o755)
            self._move(self.base, self._leaf)
        except OSError as error:
            with suppress(OSError):
                self._move(self._leaf, self.base)
            cgroupfs.rmdir(self._leaf)
            raise because(f"move the processes of {self.base} to {self._leaf}", error, Version.V2) from error

    def _find_strangers(self, crowd: Sequence[int]) -> list[int]:
        """Who is not ours. Who has just started a program has no words for a moment, such as our own builder."""
        strangers: list[int] = []
        for attempt in range(_ROUNDS):
            # Before the look at the others: words may come in between.
            silent = any(pid and not _words(pid, self._proc) for pid in crowd)
            strangers = [pid for pid in crowd if not is_ours(pid, self._proc)]
            if not strangers or not silent:
                break
            calls.sleep(0.001 * 2**attempt)
        return strangers

    def _move(self, source: str, target: str) -> None:
        """Move all processes. One that is ending is not moved; it leaves by itself."""
        patience = _Patience()
        while crowd := cgroupfs.pids(source):
            for pid in crowd:
                with suppress(ProcessLookupError):
                    cgroupfs.put(f"{target}/cgroup.procs", str(pid))
            left = cgroupfs.pids(source)
            if left and not patience.waits_for(left, self._proc):
                raise OSError(errno.EBUSY, "processes keep appearing", source)


class _Patience:
    """Pauses for a group that is to become empty: a few with processes that live, more with some that are ending.

    The end takes a process as long as it had memory, on a busy machine a second and more.
    """

    def __init__(self) -> None:
        self._rounds = 0
        self._pause = 0.001
        self._deadline = calls.monotonic() + _ENDING_SECONDS

    def waits_for(self, pids: Iterable[int], proc: Path) -> bool:
        """Pause, and return True; False if it has been long enough."""
        self._rounds += any(not is_ending(pid, proc) for pid in pids)
        if self._rounds > _ROUNDS or calls.monotonic() > self._deadline:
            return False
        calls.sleep(self._pause)
        self._pause = min(2 * self._pause, 0.05)
        return True


def is_ending(pid: int, proc: Path) -> bool:
    """Whether a process has ended, or is about to. False for 0, which is one that our pid namespace does not show."""
    if not pid:
        return False
    fields = stat_fields(pid, proc)
    return fields is None or bool(int(fields[6]) & _EXITING)


def is_ours(pid: int, proc: Path) -> bool:
    """Whether a process belongs to our work: kin of ours, or in the session (setsid(2)) of ourselves or an ancestor.

    A builder, and what it has started, belong where their pytest does.
    """
    own = calls.getpid() if proc == Path("/proc") else int(calls.readlink(f"{proc}/self"))
    pid = next((pytest for each in _ancestry(pid, proc) if (pytest := served(each, proc))), pid)
    ancestors = set(_ancestry(own, proc))
    if pid in ancestors or own in _ancestry(pid, proc):
        return True
    if is_ending(pid, proc):
        return True  # a builder of an earlier run has lost its words by now
    fields, mine = stat_fields(pid, proc), stat_fields(own, proc)
    if fields is None:
        return pid != 0
    leader = int(fields[3])
    return leader in ancestors or (mine is not None and leader != 0 and leader == int(mine[3]))


def _ancestry(pid: int, proc: Path) -> Iterable[int]:
    """The process, its parent, and so on."""
    while pid > 0:
        yield pid
        fields = stat_fields(pid, proc)
        pid = int(fields[1]) if fields else 0


def _words(pid: int, proc: Path) -> bytes:
    try:
        return files.read_bytes(f"{proc}/{pid}/cmdline")
    except OSError:
        return b""


def _describe(pid: int, proc: Path) -> str:
    if not pid:
        return "one outside of this pid namespace"
    try:
        return f"{pid} {files.read_text(f'{proc}/{pid}/comm').strip()}"
    except OSError:
        return str(pid)


def _access_error(path: str) -> OSError:
    """Why access(2) refuses: os.access hides it."""
    read_only = bool(calls.statvfs(path).f_flag & os.ST_RDONLY)
    return OSError(errno.EROFS if read_only else errno.EACCES, "", path)
