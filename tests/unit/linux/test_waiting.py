"""Waiting for processes."""

from __future__ import annotations

import os

import pytest

from pytest_isolate.linux.waiting import exit_status


@pytest.mark.parametrize("pid", [0, -1, -(1 << 40), 1 << 22, 1 << 31, 10**30])
def test_no_process_has_a_status_that_cannot_be_one(pid: int) -> None:
    """The number comes from a test."""
    assert exit_status(pid) is None


def test_the_status_of_a_child_stays_to_be_waited_for() -> None:
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert exit_status(child) == 7
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
