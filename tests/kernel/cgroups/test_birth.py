"""A child that is born in its group of v2 instead of entering it, where kernel and machine can."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.hierarchies import Version, hierarchies
from pytest_isolate.linux.procfs import PROC
from tests.support.in_cgroups import GIVEN
from tests.support.refusing_seccomp import command

REPOSITORY = Path(__file__).parent.parent.parent.parent
SYSCALL_USER_DISPATCH = 59  # PR_SET_SYSCALL_USER_DISPATCH
#: Forks as a test is forked, into no sandbox but one group. Arguments: the file to enter by, and how it is opened.
FORK = """
import json, os, signal, sys
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.forker import Entry, Forker

def look():
    with open("/proc/self/cgroup") as groups, open("/proc/self/status") as status:
        return {
            "group": next(line for line in groups if line.startswith("0::")).strip(),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "signals": [line.split()[1] for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))],
        }

file = Fd(os.open(sys.argv[1], getattr(os, sys.argv[2])))
plan = Plan(namespaces=Clone(0), no_new_privs=False, seccomp=False)
forker = Forker()
before = look()
forked = forker.fork(plan, Entry(init_pidfd=Fd(-1), attach=(file,), close=(), cwd="/"))
if forked.pid == 0:
    print(json.dumps([before, look()]), flush=True)
    os._exit(0)
os.waitid(os.P_PIDFD, forked.pidfd, os.WEXITED | os.WNOWAIT)
forker.reap()
if trouble := forker.trouble():
    sys.exit(str(trouble))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of v2 in which nobody is."""
    found = [one for one in hierarchies(PROC) if one.version is Version.V2]
    if not found:
        pytest.skip("no cgroup2 hierarchy is mounted")
    base = Path(f"{found[0].mount}{GIVEN}" if GIVEN else found[0].own or "/nowhere")
    if not os.access(base, os.W_OK):
        pytest.skip(f"{base} may not be written to")
    made = base / f"birth-{os.getpid()}"
    made.mkdir()
    yield made
    with suppress(FileNotFoundError):
        cgroupfs.clear(str(made))


def fork(group: Path, mode: str, *before: str) -> list[dict[str, Any]]:
    """What the process saw of itself before the fork, and the child; ``before``: to put before the command."""
    program = [*before, sys.executable, "-c", FORK, str(group / "cgroup.procs"), mode]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY)
    assert done.stderr == ""
    looks: list[dict[str, Any]] = json.loads(done.stdout)
    return looks


def needs_dispatch() -> None:
    mode = ctypes.c_char(0)  # all calls pass
    libc = ctypes.CDLL(None, use_errno=True)
    if platform.machine() != "x86_64" or libc.prctl(SYSCALL_USER_DISPATCH, 1, 0, 0, ctypes.byref(mode)):
        pytest.skip("no Syscall User Dispatch on this kernel or machine")
    libc.prctl(SYSCALL_USER_DISPATCH, 0, 0, 0, 0)


def test_a_child_is_there_without_writing_to_the_file(group: Path) -> None:
    """By a file that cannot be written to, nobody can enter."""
    needs_dispatch()

    _, child = fork(group, "O_RDONLY")

    assert child["group"].endswith(f"/{group.name}")


@pytest.mark.parametrize("refused", [(), ("clone3=ENOSYS",), ("clone3=EPERM",)], ids=str)
def test_a_child_has_what_any_fork_has_even_where_it_enters_by_itself(group: Path, refused: tuple[str, ...]) -> None:
    """No descriptor and no signal handler of the helper's is left in it."""
    before, child = fork(group, "O_WRONLY", *(command(*refused) if refused else ()))

    assert child["group"].endswith(f"/{group.name}")
    assert {**child, "group": ""} == {**before, "group": ""}


def test_a_child_that_can_be_neither_born_there_nor_enter_is_an_error_that_names_the_step(group: Path) -> None:
    program = [*command("clone3=ENOSYS"), sys.executable, "-c", FORK, str(group / "cgroup.procs"), "O_RDONLY"]

    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY)

    assert "EBADF" in done.stderr
    assert "cgroup" in done.stderr
    assert done.stdout == ""
