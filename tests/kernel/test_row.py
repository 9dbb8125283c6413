"""More runs than may go on at a time: the next is forked when one has ended, before Python goes on in this process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: In a process of its own, as only one without other threads waits for its children in C.
FORK = """
import json, os, sys, time
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.forker import Entry, Forker, fork_together

at_once, quiet = int(sys.argv[1]), sys.argv[2] == "quiet"
reader, writer = os.pipe()
forkers = [Forker() for _ in range(5)]
self = Fd(os.pidfd_open(os.getpid()))
for forker in forkers:
    forker.prepare(Plan(namespaces=Clone(0)), Entry(init_pidfd=self, attach=(), close=(self,), cwd="/"))
number, _ = fork_together(forkers, at_once=at_once, quiet=quiet)
if number >= 0:
    began = time.monotonic()
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass
    time.sleep(0.003)
    os.write(writer, json.dumps([number, began, time.monotonic(), links]).encode() + b"\\n")
    os._exit(0)
forked = [forker.forked(None) for forker in forkers]
for forker, child in zip(forkers, forked):
    if child is not None:
        os.waitpid(child.pid, 0)
    forker.reap()
os.close(writer)
children = [json.loads(line) for line in open(reader)]
print(json.dumps([[child is not None for child in forked], children]))
"""


def fork(at_once: int, how: str) -> tuple[list[bool], list[tuple[int, float, float, list[str]]]]:
    """Which of five were forked by one call; of each its number, when it began and ended, and its descriptors."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(at_once), how], capture_output=True, text=True, timeout=60, check=True
    )
    forked, children = json.loads(done.stdout)
    return forked, [tuple(child) for child in children]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_more_are_forked_by_one_call_than_live_at_a_time(at_once: int) -> None:
    most = 0
    for _ in range(20):  # on a slow machine a row is cut off, as its first child is to be reported
        forked, children = fork(at_once, "quiet")
        assert sorted(number for number, *_ in children) == list(range(sum(forked)))
        for _, began, _, _ in children:
            assert sum(start <= began < end for _, start, end, _ in children) <= at_once
        most = max(most, len(children))
        if most > min(at_once, 4):
            break
    assert most > min(at_once, 4)


def test_where_nobody_waits_for_them_the_others_are_left() -> None:
    forked, children = fork(2, "at once")
    assert forked == [True, True, False, False, False]
    assert sorted(number for number, *_ in children) == [0, 1]


def test_a_child_has_no_descriptor_of_those_before_it_nor_of_the_wait() -> None:
    _, children = fork(1, "quiet")
    assert len(children) > 1
    for _, _, _, links in children:
        assert not [link for link in links if link.startswith("anon_inode")], links
