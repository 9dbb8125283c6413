"""Processes that may be moved out of a group, so that it can be divided."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.delegation import Delegation, is_ours
from pytest_isolate.linux import files
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


class Group:
    """What cgroupfs sees of a group in which process 64 stays for some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.written: list[str] = []

    def pids(self, directory: str) -> tuple[int, ...]:
        self.looks -= directory == "/group"
        return (64,) if self.looks >= 0 and directory == "/group" else ()

    def put(self, path: str, text: str) -> None:
        if path.endswith("subtree_control") and self.looks > 0:
            raise OSError(errno.EBUSY, "busy")
        self.written.append(f"{path} {text}")


@pytest.fixture
def delegation(host: Host) -> Delegation:
    return Delegation("/group", host.proc)


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Group]:
    """Begin anew, with process 64 in the group."""

    def begin() -> Group:
        group = Group(30)
        monkeypatch.setattr(cgroupfs, "put", group.put)
        monkeypatch.setattr(cgroupfs, "pids", group.pids)
        return group

    return begin


def test_a_process_that_is_ending_is_waited_for(host: Host, delegation: Delegation, stay: Callable[[], Group]) -> None:
    """Else the session would have no control groups, as a large process of its group has just ended."""
    host.process(64, ppid=1, sid=64, flags=0x4)

    stay()
    delegation._move("/group", "/group/leaf")
    group = stay()
    delegation._switch("+memory")

    assert group.written == ["/group/cgroup.subtree_control +memory"]


def test_a_process_that_lives_and_is_there_again_and_again_is_not(
    host: Host, delegation: Delegation, stay: Callable[[], Group]
) -> None:
    host.process(64, ppid=1, sid=64)

    group = stay()
    with pytest.raises(OSError, match="processes keep appearing"):
        delegation._move("/group", "/group/leaf")
    assert group.looks > 5
    group = stay()
    with pytest.raises(OSError, match="busy"):
        delegation._switch("+memory")
    assert group.looks > 5


def test_a_builder_that_has_no_words_yet_is_no_stranger(
    host: Host, delegation: Delegation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is nobody's child; between its program's start and its first instruction /proc has no words of it."""
    host.process(64, ppid=1, sid=64)
    host.process(65, ppid=1, sid=65, words=["daemon"])
    looks = []

    def words(pid: int, proc: Path) -> bytes:
        looks.append(pid)
        if len(looks) == 3:
            host.process(64, ppid=1, sid=64, words=["isolate-builder", "1", f"for={ME}"])
        return files.read_bytes(proc / str(pid) / "cmdline")

    host.process(ME, ppid=1, sid=1)
    monkeypatch.setattr("pytest_isolate.cgroups.delegation._words", words)

    assert delegation._find_strangers([64, 65]) == [65]
