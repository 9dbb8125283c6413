"""What is said of a path of a cgroup that is written as the file system has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_isolate.linux import files
from pytest_isolate.plugin.config import config_reader

V1 = """tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
ELSEWHERE = "cgroup /dev/cgroup/memory cgroup rw,memory 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "written", "meant"),
    [
        (V1, "/sys/fs/cgroup/memory/x", "/x"),
        (V1, "/sys/fs/cgroup/memory/a/b/", "/a/b"),
        (V1, "/sys/fs/cgroup/cpu,cpuacct/x", "/x"),
        (V1, "/sys/fs/cgroup/unified/user.slice/x", "/user.slice/x"),
        (V1, "/sys/fs/cgroup/memory", "/"),
        (V2, "/sys/fs/cgroup/memory/x", "/memory/x"),  # a group's name
        (ELSEWHERE, "/dev/cgroup/memory/x", "/x"),
    ],
)
def test_the_right_path_is_named(monkeypatch: pytest.MonkeyPatch, mounts: str, written: str, meant: str) -> None:
    read: Callable[[str], str] = {"/proc/self/mounts": mounts}.__getitem__
    monkeypatch.setattr(files, "read_text", read)
    with pytest.raises(ValueError, match=f"not from the file system's: {meant}\\.$"):
        config_reader._cgroup(written)


def test_a_path_from_the_cgroup_root_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "read_text", lambda _: V1)
    assert config_reader._cgroup("/memory/x") == "/memory/x"
