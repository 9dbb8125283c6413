"""Groups of a session: what a dead one left is swept, and nothing of a living one stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_isolate.cgroups import cgroupfs, entrant
from pytest_isolate.cgroups.delegation import is_ending
from pytest_isolate.cgroups.discovery import find
from pytest_isolate.cgroups.interface import CgroupTree
from pytest_isolate.cgroups.session_names import session_name
from pytest_isolate.linux.procfs import PROC, start_time, stat_fields
from pytest_isolate.spec.errors import SetupError, SpecError, UnsupportedError
from pytest_isolate.spec.spec import Limits
from tests.support.in_cgroups import GIVEN, MB, made, needs, run, start


def test_what_a_dead_session_left_is_swept_with_its_processes(tree: CgroupTree) -> None:
    needs(tree, "pids")
    reader, writer = os.pipe()
    dead = os.fork()
    if not dead:
        left = find(session_name(), "main", GIVEN)
        # Not `made`: it cleans up. A grandchild stays in the groups when we are gone.
        attach = []
        for one in left.dirs(Limits(pids=3)):
            if one.shared:
                continue
            os.mkdir(f"{one.parent}/t1")
            for file, text in one.files:
                cgroupfs.put(f"{one.parent}/t1/{file.lstrip('?')}", text)
            attach.append(f"{one.parent}/t1/cgroup.procs")
        pid = start(attach, lambda: time.sleep(60))
        os.write(writer, f"{pid} {' '.join(left.cleanup)}".encode())
        os._exit(0)
    os.waitpid(dead, 0)
    words = os.read(reader, 1 << 16).decode().split()
    assert all(Path(path).is_dir() for path in words[1:])
    find(session_name(), "second", GIVEN).close()
    assert not any(Path(path).exists() for path in words[1:])
    deadline = time.monotonic() + 10  # it leaves its group a moment before it is dead
    while _runs(int(words[0])) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(int(words[0]))


def _runs(pid: int) -> bool:
    """Whether it is neither gone nor a zombie, which it is until its new parent has reaped it."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def test_a_living_session_and_strangers_are_not_swept(tree: CgroupTree) -> None:
    needs(tree, "pids")
    base = Path(tree.cleanup[1]).parent
    parent = os.getppid()
    living = re.sub(r"\d+-\d+$", f"{parent}-{start_time(parent)}", session_name())
    strangers = [base / living, base / f"pytest-isolate-mine-{os.getpid()}"]
    for stranger in strangers:
        stranger.mkdir()
    try:
        find(session_name(), "second", GIVEN).close()
        assert all(stranger.is_dir() for stranger in strangers)
        assert all(Path(path).is_dir() for path in tree.cleanup)
    finally:
        for stranger in strangers:
            stranger.rmdir()


def state() -> list[str]:
    """What a session may not change for good: where we are, what is there, and what is handed down."""
    text = [Path("/proc/self/cgroup").read_text()]
    for root, directories, files in os.walk("/sys/fs/cgroup"):
        text += [f"{root}/{name}" for name in directories if "pytest-isolate" in name and f"-{os.getpid()}-" in name]
        text += [f"{root}/{name}" for name in directories if name == "pytest-isolate-supervisor"]
        if "cgroup.subtree_control" in files:
            text.append(Path(root, "cgroup.subtree_control").read_text())
    return text


def test_close_leaves_all_as_it_was_even_twice() -> None:
    before = state()
    tree = find(session_name(), "main", GIVEN)
    if tree.controllers:
        assert state() != before
    tree.close()
    tree.close()
    assert state() == before


def test_an_error_on_the_way_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of a builder which is killed before it has heard of all groups."""
    before = state()
    seen = []

    def fail() -> NoReturn:
        seen.extend(state())
        raise SetupError("reach the builder process", "pid 1", 32)

    monkeypatch.setattr(entrant, "start", fail)  # once all are made

    with pytest.raises(SetupError):
        find(session_name(), "main", GIVEN)

    assert seen
    assert state() == before


def test_close_agrees_with_a_builder_that_has_removed_everything() -> None:
    before = state()
    tree = find(session_name(), "main", GIVEN)
    for path in tree.cleanup:
        os.rmdir(path)
    assert tree.read("t1").oom_kills == 0
    assert tree.processes("t1") == ()
    tree.close()
    assert state() == before


def test_a_test_s_group_that_was_left_goes_with_its_worker(tree: CgroupTree) -> None:
    for one in tree.dirs(Limits()):
        os.mkdir(f"{one.parent}/t9")
    tree.close()
    assert not any(Path(path).exists() for path in tree.cleanup)


def test_the_session_lives_until_its_last_worker() -> None:
    before = state()
    first, second = (find(session_name(), name, GIVEN) for name in ("gw0", "gw1"))
    first.close()
    assert all(Path(path).is_dir() for path in second.cleanup)
    with made(second, Limits()) as attach:
        assert run(attach, lambda: None) == 0
    second.close()
    assert state() == before


def test_sessions_that_share_a_group_leave_one_after_another() -> None:
    before = state()
    go, ready = os.pipe(), os.pipe()
    other = os.fork()
    if not other:
        tree = find(session_name(), "main", GIVEN)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        tree.close()
        os._exit(0)
    os.read(ready[0], 1)
    tree = find(session_name(), "main", GIVEN)
    os.write(go[1], b".")
    os.waitpid(other, 0)
    assert all(Path(path).is_dir() for path in tree.cleanup)
    with made(tree, Limits()) as attach:
        assert run(attach, lambda: None) == 0
    tree.close()
    assert state() == before


def test_groups_stay_below_the_one_we_are_in(tree: CgroupTree) -> None:
    """So that a limit of the user's own group goes on holding."""
    if GIVEN is not None:
        pytest.skip("the group is given")
    own = [
        line.split(":", 2)[2].removesuffix("/pytest-isolate-supervisor")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
    ]
    for path in tree.cleanup:
        assert any(path.partition(f"{place.rstrip('/')}/pytest-isolate-")[1] for place in own), path


def test_a_large_process_that_is_just_ending_costs_no_controller(tree: CgroupTree) -> None:
    """It is in the group to be divided until it has given its memory back."""
    eats = "import sys; eaten = bytearray(1 << 30); print(flush=True); sys.stdin.read()"
    tree.close()
    with subprocess.Popen([sys.executable, "-c", eats], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as large:
        assert large.stdout
        large.stdout.readline()
        large.kill()
        while not is_ending(large.pid, PROC):
            pass

        again = find(session_name(), "main", GIVEN)

    assert again.controllers == tree.controllers
    again.close()


def test_a_stranger_in_our_group_keeps_us_from_moving_it() -> None:
    probe = find(session_name(), "main", GIVEN)
    moved = "pytest-isolate-supervisor" in Path("/proc/self/cgroup").read_text()
    probe.close()
    if not moved:
        pytest.skip("v1, or a group that needs no moving")
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    os.waitpid(middle, 0)
    stranger = int(os.read(reader, 20))
    try:
        before = state()
        tree = find(session_name(), "main", GIVEN)
        assert state() == before
        assert f"{stranger} {Path('/proc/self/comm').read_text().strip()}" in tree.lacks["memory"][0]
        assert "systemd-run" in tree.lacks["memory"][1]
        tree.close()
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_a_given_group_that_is_not_there_is_named() -> None:
    reason = r"no/such does not exist|no cgroup hierarchy is mounted"
    with pytest.raises(SpecError, match=rf"--isolate-cgroup=/no/such.*({reason})"):
        find(session_name(), "main", "/no/such")


def test_a_host_without_usable_groups_says_why_and_what_to_do() -> None:
    tree = find(session_name(), "main", GIVEN)
    tree.close()
    if tree.controllers:
        assert not tree.lacks.keys() & tree.controllers
    else:
        with pytest.raises(UnsupportedError, match="memory cannot be enforced here"):
            tree.dirs(Limits(memory=MB))
        assert tree.dirs(Limits(memory=MB), degrade=True) == ()
    # A sentence, or a command, behind which a full stop would be copied as well.
    assert all(reason and remedy.endswith((".", "$USER", "$USER $$")) for reason, remedy in tree.lacks.values())
