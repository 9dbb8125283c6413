"""A sandbox that has gone when a test is to be forked into it."""

from __future__ import annotations

import subprocess
import sys

#: In a process of its own, as only one without other threads waits for its children in C.
FORK = """
import os, subprocess
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.forker import Entry, Forker, fork_together
from pytest_isolate.spec.errors import SetupError

with subprocess.Popen(["true"]) as gone:
    pidfd = Fd(os.pidfd_open(gone.pid))
plan = Plan(namespaces=Clone.NEWPID, join=Clone.NEWPID)
forkers = [Forker(), Forker()]
for forker in forkers:
    forker.prepare(plan, Entry(init_pidfd=pidfd, attach=(), close=(), cwd="/"))
number, _ = fork_together(forkers, quiet=True)
assert number == -1
for forker in forkers:
    try:
        forker.forked(None)
    except SetupError as error:
        print(error)
"""


def test_where_no_child_could_be_made_nobody_waits_for_one() -> None:
    """It waited for a signal, or as long as a limit of time allowed."""
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)

    assert done.stderr == ""
    assert ["ESRCH" in line for line in done.stdout.splitlines()] == [True, True], done.stdout
