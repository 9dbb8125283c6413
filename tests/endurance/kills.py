"""SIGKILL of each process of a run, at random moments: afterwards nothing is left."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from pytest_isolate.linux import procfs
from tests.endurance.machine import Machine
from tests.endurance.runs import BUSY, Project
from tests.support.helper_processes import builders_of, helpers_of

_TESTS = 12
_SECONDS = 600.0  # for one run, on a machine however slow; more is a hang
_SHARE = 0.7  # of a run's time, within which it is disturbed: later on it has often ended
WAYS: tuple[tuple[str, ...], ...] = (
    ("--isolate-jobs=1",),
    ("--isolate-jobs=4",),
    ("-n2",),
    ("-n2", "--isolate-jobs=2"),
)
VICTIMS = ("pytest", "builder", "init", "test", "broker", "worker")


def run(number: int, minutes: float, machine: Machine, folder: Path) -> bool:
    """Kill so many processes, one in each run, or until the time is up. Whether nothing is left, and none hangs."""
    until = time.monotonic() + minutes * 60
    project = Project(folder, BUSY, machine)
    lasts = [_undisturbed(project, way) for way in WAYS]
    killed: Counter[str] = Counter()
    ended_before = 0  # runs that were over when their turn came
    well = True
    for turn in itertools.count():
        if killed.total() == number or time.monotonic() > until:
            break
        at = turn % len(WAYS)
        victim = VICTIMS[turn // len(WAYS) % len(VICTIMS)]
        bridge = {"ENDURANCE_BRIDGE": "yes"} if victim == "broker" else {}
        process = project.start(_TESTS, *WAYS[at], **bridge)
        hit = _kill(process, victim, random.uniform(0, lasts[at] * _SHARE), machine)
        if hit:
            killed[victim] += 1
        else:
            ended_before += 1
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            print(
                f"HANGS: {victim} killed with {' '.join(WAYS[at]) or 'no options'}: {project.last_words()}", flush=True
            )
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            well = False
        well &= _look(f"{victim} killed with {' '.join(WAYS[at]) or 'no options'}", machine)
        if (turn + 1) % 20 == 0:
            print(f"{turn + 1} runs: {dict(killed)}", flush=True)
    process = project.start(_TESTS, "-n2")
    well &= process.wait(_SECONDS) == 0
    victims = ", ".join(f"{count} {name}" for name, count in sorted(killed.items()))
    print(f"{killed.total()} times SIGKILL: {victims}; {ended_before} runs had ended before")
    print(f"one more run: {project.last_words()}")
    return well & _look("one more run", machine)


def _undisturbed(project: Project, way: tuple[str, ...]) -> float:
    """How long a run takes."""
    started = time.monotonic()
    status = project.start(_TESTS, *way).wait(_SECONDS)
    assert status == 0, (project.folder / "out").read_text()
    return time.monotonic() - started


def _kill(process: subprocess.Popen[bytes], victim: str, seconds: float, machine: Machine) -> bool:
    """Kill one of its processes after so many seconds, or as soon as there is one of that kind."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        workers = [pid for pid, parent in procfs.parents().items() if parent == process.pid and _is_worker(pid)]
        machine.sessions += [pid for pid in workers if pid not in machine.sessions]
        pids = _of_kind(victim, [process.pid, *workers], workers)
        if time.monotonic() >= until and pids:
            with suppress(ProcessLookupError):
                os.kill(random.choice(pids), signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def _of_kind(victim: str, sessions: list[int], workers: list[int]) -> list[int]:
    found: list[int] = []
    for pid in sessions:
        match victim:
            case "pytest":
                found = [sessions[0]]
            case "worker":
                found = workers or [sessions[0]]
            case "builder":
                with suppress(OSError):
                    found += builders_of(pid)
            case "init":
                found += [one for one in helpers_of(pid, b"isolate-builder") if _name(one) == "isolate-init"]
            case "broker":
                found += helpers_of(pid, b"broker")
            case _:
                children = [one for one, parent in procfs.parents().items() if parent == pid and not _is_worker(one)]
                found += [one for one in children if _name(one) not in ("builder", "")]
    return found


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"execnet" in Path(f"/proc/{pid}/cmdline").read_bytes() and _in_our_namespace(pid)
    return False


def _in_our_namespace(pid: int) -> bool:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _look(after: str, machine: Machine) -> bool:
    if left := machine.left():
        print(f"LEFT after {after}: {left}: {[_told(pid) for pid in machine.processes()]}", flush=True)
        for pid in machine.processes():  # so that the next look is at the next run
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    return not left


def _told(pid: int) -> str:
    with suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes()[:200]!r}"
    return str(pid)
