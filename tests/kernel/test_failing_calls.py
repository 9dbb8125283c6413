"""Each system call of the C core fails once: the test runs sandboxed, or it is an error that says why; nothing stays.

strace makes them fail. ``ISOLATE_CALLS=all`` tries every call of each process with every error; otherwise it is
the first and the last call of each kind. ``ISOLATE_CALLS_TABLE=FILE`` writes down what came out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs("sandbox", "strace"), pytest.mark.timeout(1800)]

ALL = os.environ.get("ISOLATE_CALLS") == "all"
TABLE = os.environ.get("ISOLATE_CALLS_TABLE")
PATIENCE = 30  # seconds for one run, which takes one
_HELD_UP = {"read", "write", "recvmsg", "recvfrom", "sendto", "sendmsg", "poll", "ppoll", "wait4"}  # may be EINTR
#: What cannot fail, or whose result says nothing; and what the C library does by itself.
_NEVER = {"close", "exit", "exit_group", "restart_syscall", "geteuid", "getpid", "getppid", "umask", "rt_sigreturn"}
_NEVER |= {"set_robust_list", "munmap", "brk", "rt_sigaction"}
#: With the child's, strace would make Python's own calls of this name fail.
_PYTHONS = {"enter": {"openat"}}
#: Of pytest's own process only what fork.c does: the rest is Python's.
_FORK = {"prctl", "unshare", "vfork", "wait4", "pidfd_open", "signalfd4", "ppoll"}


@dataclass(frozen=True, slots=True)
class Row:
    place: str
    call: str
    number: int
    how: str  #: as strace's ``inject`` has it

    def __str__(self) -> str:
        return f"{self.place:8} {self.call:16} {self.number:4} {self.how:12}"


def calls(place: str, tmp_path: Path) -> tuple[list[list[str]], dict[str, object]]:
    """The names of a run's system calls by process, in order; and what came of it."""
    trace = tmp_path / "trace"
    result, _ = perform(place, ["-o", str(trace)])
    assert result.get("sandboxed"), result
    by_process: dict[str, list[str]] = {}
    for line in trace.read_text().splitlines():
        if found := re.match(r"(?:(\d+) +)?(\w+)\((.*)", line):
            by_process.setdefault(found[1], []).append(found[2] + ("!" if _starts(found[2], found[3]) else ""))
    return list(by_process.values()), result


def _starts(call: str, arguments: str) -> bool:
    """Whether it is the C core's first call: before it come those of the dynamic linker."""
    return call == "fcntl" and "F_SETFD" in arguments


def _until(names: list[str], last: str) -> list[str]:
    return names[: len(names) - names[::-1].index(last)] if last in names else []


def tried(place: str, processes: list[list[str]]) -> dict[str, set[int]]:
    """Which of the calls are to fail: numbers by name."""
    numbers: dict[str, set[int]] = {}
    for index, names in enumerate(processes):
        if place == "init" and index == 0:
            continue  # the builder's, which have their own row
        start = next((i for i, name in enumerate(names) if name.endswith("!")), 0) if index == 0 else 0
        plain = [name.removesuffix("!") for name in names]
        own: frozenset[str] | set[str] = _FORK if place == "enter" and index == 0 else set(plain)
        if place == "enter" and index > 1:
            plain = _until(plain, "seccomp")
        if place == "launch" and index > 0:
            plain = _until(plain, "seccomp")
        seen: Counter[str] = Counter()
        for i, name in enumerate(plain):
            seen[name] += 1
            if i >= start and name in own and name not in _NEVER | _PYTHONS.get(place, set()):
                numbers.setdefault(name, set()).add(seen[name])
    return numbers


def rows(place: str, numbers: dict[str, set[int]]) -> Iterator[Row]:
    for call, which in sorted(numbers.items()):
        for number in sorted(which) if ALL else sorted({min(which), max(which)}):
            last = number == max(which)
            if ALL or not last or len(which) == 1:
                yield Row(place, call, number, "error=ENOMEM")
            if ALL or last:
                yield Row(place, call, number, "error=EPERM")
            if call in _HELD_UP and (ALL or last):
                yield Row(place, call, number, "error=EINTR")
            if call == "write" and (ALL or last):
                yield Row(place, call, number, "retval=0")


def perform(place: str, options: list[str]) -> tuple[dict[str, object], list[str]]:
    """What came of one run, and what it left."""
    command = [sys.executable, "-m", "tests.kernel.failing_calls", place, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return {"hang": PATIENCE}, left(process.pid)
    lines = out.decode().splitlines()
    result = json.loads(lines[-1]) if lines else {"crash": err.decode()[-400:], "status": process.returncode}
    return result, left(process.pid)


def left(pid: int) -> list[str]:
    """Builder, PID 1s, cgroups and mounts of a session, once they have had time to go."""
    deadline = time.monotonic() + 8
    while (found := list(_left(pid))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _left(pid: int) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"for={pid}\0".encode() in (entry / "cmdline").read_bytes():
                yield f"process {entry.name}"
        except OSError:
            continue
    mark = re.compile(rf"pytest-isolate-\d+-{pid}-")
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"{folder}/{name}" for name in below if mark.match(name))
    yield from (line for line in Path("/proc/self/mountinfo").read_text().splitlines() if mark.search(line))


#: What an error says: what could not be done, and the kernel's answer.
_TOLD = re.compile(r"sandbox: cannot \w+.*: E[A-Z]+ \(|\[Errno \d+\] .*: '")
_TOLD_AT_START = re.compile(r"\w+ cannot be enforced here: cannot \w+ .*: E[A-Z]+ \(")  # before anything has worked


def problem(place: str, normal: dict[str, object], result: dict[str, object], remains: list[str]) -> str | None:
    if remains:
        return f"left {remains}"
    if error := result.get("error"):
        told = _TOLD.search(str(error)) or (place == "start" and _TOLD_AT_START.search(str(error)))
        return None if told else "an error that does not say what failed, and why"
    return None if result == normal else "neither an error nor a sandbox like any other"


@pytest.mark.parametrize("place", ["start", "starter", "builder", "init", "enter", "launch"])
def test_a_call_that_fails_is_told_or_does_no_harm(place: str, tmp_path: Path) -> None:
    processes, normal = calls(place, tmp_path)
    table = list(rows(place, tried(place, processes)))
    assert len(table) > 5

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        options = (["-e", f"trace={row.call}", "-e", f"inject={row.call}:{row.how}:when={row.number}"] for row in table)
        outcomes = list(pool.map(lambda words: perform(place, ["-o", "/dev/null", *words]), options))

    told = [
        f"{row} {result.get('error', 'passed' if result == normal else result)}"
        for row, (result, _) in zip(table, outcomes, strict=True)
    ]
    if TABLE:
        with Path(TABLE).open("a") as file:
            file.write("\n".join(told) + "\n")
    found = [
        f"{line}: {why}"
        for line, row, (result, remains) in zip(told, table, outcomes, strict=True)
        if (why := problem(place, normal, result, remains))
    ]
    assert not found, "\n".join(found)
