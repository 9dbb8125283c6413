"""What a run left behind: what it saw itself, processes that go on, files. All of it goes with the sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_isolate.linux import files, procfs
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.flags import Clone
from pytest_isolate.sandbox.outcome import Change, Leak, Outcome

if TYPE_CHECKING:
    from pytest_isolate.session.held import Held

#: What programs write in passing, and a plain run leaves as well: bytecode and caches.
_PASSING = re.compile(
    r"/__pycache__(/|$)|\.py[co]$"
    r"|/\.(cache|pytest_cache|hypothesis|mypy_cache|ruff_cache|benchmarks)(/|$)|/\.coverage(\.[^/]*)?$"
)
#: For processes that end with the test's own, as helpers of multiprocessing do when their pipe is closed.
_PATIENCE_SECONDS = 0.2
#: For those of them that run, or wait for a core or a disk: on a busy machine the way to their end is longer.
_BUSY_SECONDS = 3.0
_LOOK_SECONDS = 0.005
_KINDS = {"A": "added", "M": "changed", "D": "removed"}
_SHM = "/dev/shm"  # noqa: S108 - looked at, not written to
_SHOWN = 120  # characters of a command


def files_left(changes: Sequence[Change], tmp_path: str | None) -> tuple[Change, ...]:
    """Those of ``changes`` that neither are bytecode or caches nor lie in the directories of ``tmp_path``.

    :param tmp_path: the directory that has all of them; None: the run has none.
    """
    below = None if tmp_path is None else f"{tmp_path}/"
    return tuple(
        change
        for change in changes
        if not (below and (change.path == tmp_path or change.path.startswith(below)))
        and not _PASSING.search(change.path)
    )


def are_looked_for(held: Held) -> bool:
    """Whether the Spec of ``held`` asks for them, and they can be told from those of others."""
    return held.spec.leaks != "off" and held.plan.joins(Clone.NEWPID)


def complete(outcome: Outcome, held: Held) -> Outcome:
    """``outcome`` with all its leaks but those that may stay.

    A run that was ended, or did not come to its own end, has left whatever it was at: of it nothing is told.
    """
    if outcome.failure() is not None:
        return replace(outcome, leaks=())
    files_left = outcome.usage.files_left
    seen = outcome.leaks if files_left is None else _own(outcome.leaks, held, files_left)
    found = (*_processes(held, _uptime()), *seen, *_files(files_left or ()))
    return replace(outcome, leaks=tuple(leak for leak in found if not is_allowed(leak, outcome.spec.leaks_allowed)))


def is_allowed(leak: Leak, patterns: Iterable[str]) -> bool:
    """Whether one of ``patterns``, as ``process:redis*``, is about ``leak``: a command as a whole or its program.

    Of a port the number alone will do, of a place on the network the host.
    """
    names = [leak.name]
    if leak.kind == "process":
        names.append(os.path.basename(leak.name.split(" ")[0]))
    if leak.kind == "port":
        names.append(leak.name.rpartition(":")[2])
    if leak.kind == "network":
        names.append(_host(leak.name))
    return any(fnmatchcase(f"{leak.kind}:{name}", pattern) for pattern in patterns for name in names)


def _host(name: str) -> str:
    """Without the port, and the brackets of IPv6."""
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0] if name.count(":") == 1 else name


def _uptime() -> float:
    return float(files.read_text("/proc/uptime").split()[0])


def _processes(held: Held, now: float) -> list[Leak]:
    """:param now: seconds from boot, at the end of the test."""
    start = calls.monotonic()
    while alive := held.processes():
        patience = _BUSY_SECONDS if any(map(_is_busy, alive)) else _PATIENCE_SECONDS
        if calls.monotonic() - start > patience:
            break
        calls.sleep(_LOOK_SECONDS)
    return [leak for pid in alive if (leak := _process(pid, now)) is not None]


def _is_busy(pid: int) -> bool:
    with suppress(OSError):
        fields = procfs.stat_fields(pid)
        return fields is not None and fields[0] in "RD"
    return False


def _process(pid: int, now: float) -> Leak | None:
    command = procfs.read(pid, "cmdline").replace("\0", " ").strip() or procfs.read(pid, "comm").strip()
    with suppress(OSError):
        start = procfs.start_time(pid)
        if command and start is not None:
            seconds = max(0.0, now - start / os.sysconf("SC_CLK_TCK"))  # clock ticks are coarse
            return Leak("process", command[:_SHOWN], f"for {seconds:.1f} s")
    return None  # it has ended


def _own(found: Iterable[Leak], held: Held, changes: Iterable[Change]) -> list[Leak]:
    """``found`` without what others made meanwhile in the host's /dev/shm: the layer over it shows that as well."""
    if not any(layer.seen == _SHM for layer in held.plan.layers):
        return [*found]
    made = {change.path for change in changes}
    return [leak for leak in found if not leak.name.startswith(f"{_SHM}/") or leak.name in made]


def _files(changes: Iterable[Change]) -> Iterator[Leak]:
    """A new directory stands for all that is below it."""
    tops: dict[str, int] = {}  # what is shown -> files below it
    kinds: dict[str, str] = {}
    for change in sorted(changes, key=lambda change: change.path):
        top = _top(change.path, kinds)
        if top is not None:
            tops[top] += 1
        elif not change.path.startswith((f"{_SHM}/", "/dev/mqueue/")):  # which count as IPC
            tops[change.path], kinds[change.path] = 0, change.kind
    for path, below in tops.items():
        yield Leak("file", path, _KINDS[kinds[path]] + (f", with {below} below" if below else ""))


def _top(path: str, kinds: dict[str, str]) -> str | None:
    """The added directory that ``path`` lies in, if there is one."""
    above = os.path.dirname(path)
    while above != "/":
        if kinds.get(above) == "A":
            return above
        above = os.path.dirname(above)
    return None
