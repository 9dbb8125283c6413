"""Processes that may be moved out of a group, so that it can be divided."""

from __future__ import annotations

import pytest

from pytest_isolate.cgroups.delegation import is_ours
from tests.support.cgroup_host import ME, Host


@pytest.mark.parametrize(
    ("pid", "ours"),
    [
        (10, True),  # an ancestor: the login shell
        (ME, True),
        (20, True),  # a child
        (30, True),  # a job of the same shell: the session is led by an ancestor
        (40, False),  # a daemon
        (50, True),  # it has just ended
        (60, True),  # our builder, which is nobody's child
        (61, True),  # and its child
        (62, True),  # the builder of another worker
        (63, False),  # the builder of a daemon's pytest
        (64, True),  # it is about to end, and has no words any more: a builder of an earlier run
        (0, False),  # of another pid namespace
    ],
)
def test_kin_and_the_same_terminal_are_ours(host: Host, pid: int, ours: bool) -> None:  # noqa: FBT001
    host.process(1, ppid=0, sid=1)
    host.process(10, ppid=1, sid=10)
    host.process(ME, ppid=10, sid=10)
    host.process(20, ppid=ME, sid=20)
    host.process(30, ppid=29, sid=10)
    host.process(40, ppid=1, sid=40)
    host.process(60, ppid=1, sid=60, words=["isolate-builder", "1", f"for={ME}"])
    host.process(61, ppid=60, sid=60)
    host.process(62, ppid=1, sid=62, words=["isolate-builder", "1", "for=30"])
    host.process(63, ppid=1, sid=63, words=["isolate-builder", "1", "for=40"])
    host.process(64, ppid=1, sid=64, flags=0x4)
    assert is_ours(pid, host.proc) is ours
