"""How a run in a sandbox ended and what it used: plain data, from which reports are made."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_isolate.spec.sizes import size_text
from pytest_isolate.spec.spec import Spec


class Change(NamedTuple):
    """One file or directory that the run added, modified or deleted; a deleted directory stands for all below it."""

    kind: Literal["A", "M", "D"]
    path: str


class Leak(NamedTuple):
    """Something that the run left behind."""

    kind: str  #: one of :data:`pytest_isolate.spec.lists.LEAK_KINDS`
    name: str  #: what patterns of ``leaks=`` are about: a command, an address and port, a thread's name, a path
    detail: str  #: since when, or whose

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.detail})" if self.detail else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run used. A figure that the kernel did not give is ``None``, never 0."""

    wall_seconds: float
    cpu_seconds: float | None = None  #: user + system, of the whole process tree
    memory_peak_bytes: int | None = None
    pids_peak: int | None = None
    read_bytes: int | None = None  #: from block devices
    write_bytes: int | None = None  #: to block devices
    changes: tuple[Change, ...] | None = None  #: files changed in the discarded layer
    files_left: tuple[Change, ...] | None = None  #: of these, what is not in tmp_path, nor bytecode, nor a cache

    def properties(self) -> list[tuple[str, object]]:
        """Pairs for a pytest report's ``user_properties``, those that are known."""
        files = self.changes if self.files_left is None else self.files_left
        pairs: list[tuple[str, object]] = [
            ("isolate_wall_seconds", round(self.wall_seconds, 6)),
            ("isolate_cpu_seconds", None if self.cpu_seconds is None else round(self.cpu_seconds, 6)),
            ("isolate_memory_peak_bytes", self.memory_peak_bytes),
            ("isolate_pids_peak", self.pids_peak),
            ("isolate_read_bytes", self.read_bytes),
            ("isolate_write_bytes", self.write_bytes),
            ("isolate_files_changed", None if files is None else len(files)),
        ]
        return [(name, value) for name, value in pairs if value is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one run.

    Exactly one of ``exit_status`` and ``signal`` is set. ``messages`` are the plain data that the payload sent, in
    order; ``complete`` says whether it ran to its end and said so (an ``os._exit(0)`` in a test does not).
    """

    spec: Spec
    usage: Usage
    exit_status: int | None = None
    signal: int | None = None
    complete: bool = False
    timed_out: bool = False
    stalled: float | None = None  #: seconds that each of its threads had waited for a lock which nobody could release
    interrupted: bool = False  #: by Ctrl-C: it ended early, or had its patience and was killed
    oom_kills: int = 0  #: processes of the sandbox that the kernel killed over its memory cap
    pids_denied: int = 0  #: forks refused over its pids cap
    messages: tuple[object, ...] = ()
    error: str = ""  #: traceback of a payload that raised; pytest's payload never does
    stacks: str = ""  #: faulthandler's dump: of the crash, or of all threads at the time-out
    processes: tuple[str, ...] = ()  #: those alive at the time-out, as "PID STATE COMMAND"
    kept: str = ""  #: the command that shows its writable layer, or why that is not kept; "" if nobody asks
    lost: tuple[str, ...] = ()  #: what should have been kept and could not be, as "PATH: REASON"
    leaks: tuple[Leak, ...] = ()  #: what it left behind, but for what may stay; nobody looks with leaks="off"
    degraded: tuple[tuple[str, str], ...] = ()  #: keys not in force, each with the reason

    @property
    def value(self) -> object:
        """The last message: what the payload of :func:`pytest_isolate.run` returned. None if there is none."""
        return self.messages[-1] if self.messages else None

    def failure(self) -> str | None:
        """The sentence that names the limit and the fact, or None if the run came to its own end within its limits."""
        if broken := self._broken_limit():
            return broken
        if self.complete:
            return None
        if self.error:
            return "raised " + self.error.strip().rpartition("\n")[2]
        pids = self.spec.limits.pids
        hit = f"hit pids={pids}, then " if self.pids_denied and pids is not None else ""
        if self.signal is not None:
            return f"{hit}killed by {signal_name(self.signal)}"
        return f"{hit}exited with status {self.exit_status} without a result"

    def _broken_limit(self) -> str | None:
        limits = self.spec.limits
        if self.oom_kills and limits.memory is not None:
            peak = self.usage.memory_peak_bytes
            shown = "unknown" if peak is None else size_text(peak, digits=1)
            return f"exceeded memory={size_text(limits.memory)} (peak {shown}, OOM-killed)"
        if self.timed_out and limits.timeout is not None:
            return f"exceeded timeout={limits.timeout:g} s"
        if self.stalled is not None:
            waited = f"made no progress for {self.stalled:g} s"
            return f"{waited}: each of its threads waits for a lock that nobody can release"
        return None


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11; real-time signals, which have no name of their own, as ``signal 42``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
