"""Making a v2 group fit for sessions below it, and undoing that.

The kernel lets a group hand controllers to its children only while it holds no processes itself (cgroups(7), "no
internal processes"; the root is exempt). A user's delegated scope does hold some: the shell, pytest. They move to a
leaf below it, where the scope's own limits go on holding for them, and back when the last session is over.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pytest_isolate.cgroups import directory as group
from pytest_isolate.cgroups.names import SUPERVISOR, is_session, stat_fields
from pytest_isolate.cgroups.refusal import DELEGATE, SCOPE, Refusal, because

CONTROLLERS = ("memory", "pids", "cpu", "io", "cpuset")
_V2 = 2
_RECORD = "user.pytest_isolate"  # what we enabled, kept on the group itself (user xattrs on cgroups: Linux 5.7)
_ROUNDS = 10  # of moving: a process may fork while its parent is moved


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
        available = group.get(f"{self.base}/cgroup.controllers").split()
        if not set(available) & set(CONTROLLERS):
            shown = f"only {' '.join(available)}" if available else "none"
            reason = f"{self.base}/cgroup.controllers names no controller that limits need ({shown})"
            raise Refusal(reason, f"{DELEGATE}.")
        if not os.access(self.base, os.W_OK):
            raise because(f"make a group in {self.base}", _access_error(self.base), _V2)
        on = group.get(f"{self.base}/cgroup.subtree_control").split()
        has = f"(it has: {' '.join(available)})"
        lacks = {
            name: Refusal(f"{self.base}/cgroup.controllers lacks {name} {has}", f"{DELEGATE}.")
            for name in CONTROLLERS
            if name not in available
        }
        wanted = [name for name in CONTROLLERS if name in available and name not in on]
        if wanted:
            lacks |= self._open(wanted)
        return lacks

    def leave(self) -> None:
        """If no session uses the group any more: disable what was enabled for them, and move its processes back."""
        others = [name for name in group.children(self.base) if name != SUPERVISOR]
        if any(is_session(name) for name in others):
            return
        if not others:  # a stranger's child may have come to rely on the controllers
            moved = Path(self._leaf).is_dir()
            enabled = group.get(f"{self.base}/cgroup.subtree_control").split() if moved else self._recorded()
            self._disable(enabled)
        with suppress(OSError):
            self._move(self._leaf, self.base)
            group.rmdir(self._leaf)

    def _open(self, wanted: list[str]) -> dict[str, Refusal]:
        is_root = not Path(f"{self.base}/cgroup.type").exists()
        crowd = () if is_root else group.pids(self.base)
        if crowd:
            self._move_out(crowd)
        lacks, enabled = {}, []
        for name in wanted:
            try:
                self._switch(f"+{name}")
                enabled.append(name)
            except OSError as error:
                lacks[name] = because(f"enable {name} in {self.base}/cgroup.subtree_control", error, _V2)
        self._enabled.update(enabled)
        with suppress(OSError):
            os.setxattr(self.base, _RECORD, " ".join(sorted({*self._recorded(), *enabled})).encode())
        if crowd and not enabled:
            self.leave()
        return lacks

    def _switch(self, change: str) -> None:
        """EBUSY is also what a group answers shortly after its last process has left."""
        for attempt in range(6):
            try:
                group.put(f"{self.base}/cgroup.subtree_control", change)
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == 5:  # noqa: PLR2004
                    raise
                time.sleep(0.001 * 2**attempt)
            else:
                return

    def _disable(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                self._switch(f"-{name}")
        self._enabled.clear()
        with suppress(OSError):
            os.removexattr(self.base, _RECORD)

    def _recorded(self) -> set[str]:
        try:
            return set(os.getxattr(self.base, _RECORD).decode().split())
        except OSError:
            return set(self._enabled)

    def _move_out(self, crowd: Iterable[int]) -> None:
        strangers = [pid for pid in crowd if not is_ours(pid, self._proc)]
        if strangers:
            shown = ", ".join(_describe(pid, self._proc) for pid in strangers[:3])
            raise Refusal(
                f"{self.base} holds processes that are not of this session ({shown}), "
                "so its controllers can't be handed down",
                f"{SCOPE}, which gives pytest a group of its own.",
            )
        try:
            with suppress(FileExistsError):
                os.mkdir(self._leaf, 0o755)
            self._move(self.base, self._leaf)
        except OSError as error:
            with suppress(OSError):
                self._move(self._leaf, self.base)
            group.rmdir(self._leaf)
            raise because(f"move the processes of {self.base} to {self._leaf}", error, _V2) from error

    def _move(self, source: str, target: str) -> None:
        for _ in range(_ROUNDS):
            crowd = group.pids(source)
            if not crowd:
                return
            for pid in crowd:
                with suppress(ProcessLookupError):
                    group.put(f"{target}/cgroup.procs", str(pid))
        raise OSError(errno.EBUSY, "processes keep appearing", source)


def is_ours(pid: int, proc: Path) -> bool:
    """Whether a process belongs to our work: kin of ours, or in the session (setsid(2)) of ourselves or an ancestor."""
    own = os.getpid() if proc == Path("/proc") else int(os.readlink(proc / "self"))
    ancestors = set(_line(own, proc))
    if pid in ancestors or own in _line(pid, proc):
        return True
    fields, mine = stat_fields(pid, proc), stat_fields(own, proc)
    if fields is None:
        return pid != 0  # it has ended; 0 is one that our pid namespace does not show
    leader = int(fields[3])
    return leader in ancestors or (mine is not None and leader != 0 and leader == int(mine[3]))


def _line(pid: int, proc: Path) -> Iterable[int]:
    """The process, its parent, and so on."""
    while pid > 0:
        yield pid
        fields = stat_fields(pid, proc)
        pid = int(fields[1]) if fields else 0


def _describe(pid: int, proc: Path) -> str:
    if not pid:
        return "one outside of this pid namespace"
    try:
        return f"{pid} {(proc / str(pid) / 'comm').read_text().strip()}"
    except OSError:
        return str(pid)


def _access_error(path: str) -> OSError:
    """access(2) told no; os.access hides why."""
    read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return OSError(errno.EROFS if read_only else errno.EACCES, "", path)
