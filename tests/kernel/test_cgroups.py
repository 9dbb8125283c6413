"""Groups on the real kernel: every limit holds, every figure counts, and nothing of a session stays.

``ISOLATE_CGROUP`` names a delegated group (as ``--isolate-cgroup``) for a user who has none by himself. Where the host
lacks a controller its tests are skipped, or fail if ``ISOLATE_MUST`` names it.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pytest_isolate.cgroups import Tree, find, session_name
from pytest_isolate.cgroups import directory as group
from pytest_isolate.cgroups.names import start_time, stat_fields
from pytest_isolate.errors import SpecError, UnsupportedError
from pytest_isolate.spec import Limits

GIVEN = os.environ.get("ISOLATE_CGROUP")
MB = 1 << 20


def needs(tree: Tree, *controllers: str) -> None:
    lacks = {name: f"{name}: {tree.lacks[name][0]}" for name in controllers if name in tree.lacks}
    must = {"all", *lacks} & set(os.environ.get("ISOLATE_MUST", "").split(","))
    if lacks and must:
        pytest.fail("; ".join(lacks.values()))
    if lacks:
        pytest.skip("; ".join(lacks.values()))


@pytest.fixture
def tree() -> Iterator[Tree]:
    found = find(session_name(), "main", GIVEN)
    yield found
    found.close()


@contextmanager
def made(tree: Tree, limits: Limits, name: str = "t1") -> Iterator[list[str]]:
    """Make a test's groups as the builder does; the files to enter by."""
    directories = []
    try:
        for one in tree.dirs(limits):
            directory = f"{one.parent}/{name}"
            os.mkdir(directory)
            directories.append((directory, one.attach))
            for file, text in one.files:
                with suppress(FileNotFoundError) if file.startswith("?") else ExitStack():
                    group.put(f"{directory}/{file.lstrip('?')}", text)
        yield [f"{directory}/{attach}" for directory, attach in directories]
    finally:
        for directory, _ in directories:
            group.clear(directory)


def start(attach: list[str], body: Callable[[], object]) -> int:
    """Fork a process that enters the groups as the core's child does, runs ``body`` and exits with 0 if that returns.

    It has entered when this returns.
    """
    descriptors = [os.open(path, os.O_WRONLY) for path in attach]
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 70
        try:
            for descriptor in descriptors:
                os.write(descriptor, b"0")
            os.write(writer, b".")
            body()
            status = 0
        except OSError as error:
            status = error.errno or 70
        finally:
            os._exit(status)
    os.close(writer)
    os.read(reader, 1)
    for descriptor in (*descriptors, reader):
        os.close(descriptor)
    return pid


def run(attach: list[str], body: Callable[[], object]) -> int:
    """The exit status of :func:`start`'s process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(start(attach, body), 0)[1])


def spin(seconds: float) -> None:
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass


def test_memory_over_the_cap_is_killed_and_counted(tree: Tree) -> None:
    needs(tree, "memory", "swap")
    with made(tree, Limits(memory=30 * MB)) as attach:
        status = run(attach, lambda: bytearray(100 * MB))
        reading = tree.read("t1")
    assert status == -signal.SIGKILL
    assert reading.oom_kills >= 1
    assert reading.memory_peak_bytes is None or 29 * MB < reading.memory_peak_bytes <= 30 * MB


def test_memory_below_the_cap_is_left_alone_and_its_peak_known(tree: Tree) -> None:
    needs(tree, "memory")
    with made(tree, Limits(memory=60 * MB)) as attach:
        status = run(attach, lambda: bytearray(20 * MB))
        reading = tree.read("t1")
    assert (status, reading.oom_kills) == (0, 0)
    assert reading.memory_peak_bytes is None or 20 * MB < reading.memory_peak_bytes < 40 * MB


def test_an_oom_kill_takes_the_whole_test_where_the_kernel_can(tree: Tree) -> None:
    needs(tree, "memory", "swap")
    if tree.version != "v2":
        pytest.skip("memory.oom.group is of v2")

    def lose_a_child() -> None:
        if not os.fork():
            bytearray(100 * MB)
            os._exit(0)
        time.sleep(20)

    with made(tree, Limits(memory=30 * MB)) as attach:
        assert run(attach, lose_a_child) == -signal.SIGKILL


def test_processes_over_the_cap_get_eagain(tree: Tree) -> None:
    needs(tree, "pids")

    def fork_often() -> None:
        children = []
        try:
            for _ in range(20):
                pid = os.fork()
                if not pid:
                    time.sleep(20)
                    os._exit(0)
                children.append(pid)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    with made(tree, Limits(pids=5)) as attach:
        status = run(attach, fork_often)
        reading = tree.read("t1")
    assert status == errno.EAGAIN
    assert reading.pids_denied >= 1
    assert reading.pids_peak in (None, 5)


def test_cpu_time_of_all_descendants_is_counted(tree: Tree) -> None:
    needs(tree, "cpu")

    def spin_twice() -> None:
        if not os.fork():
            spin(0.2)
            os._exit(0)
        spin(0.2)
        os.wait()

    with made(tree, Limits()) as attach:
        run(attach, spin_twice)
        seconds = tree.read("t1").cpu_seconds
    assert seconds is not None
    assert 0.35 < seconds < 1.5


def test_a_cpu_quota_slows_down(tree: Tree) -> None:
    needs(tree, "cpu")
    with made(tree, Limits(cpus=0.25)) as attach:
        started = time.monotonic()
        run(attach, lambda: spin(0.3))
        wall = time.monotonic() - started
        seconds = tree.read("t1").cpu_seconds
    assert seconds is not None
    assert seconds / wall < 0.4


@pytest.mark.parametrize("cpus", [0.001, 0.25, 64])
def test_the_kernel_takes_any_quota(tree: Tree, cpus: float) -> None:
    needs(tree, "cpu")
    with made(tree, Limits(cpus=cpus)):
        pass


def test_a_cpuset_shows_one_core(tree: Tree) -> None:
    needs(tree, "cpuset")

    def check() -> None:
        if os.sched_getaffinity(0) != {0}:
            raise OSError(99, str(os.sched_getaffinity(0)))

    with made(tree, Limits(cpuset="0")) as attach:
        assert run(attach, check) == 0


def test_cores_that_are_not_there_are_refused(tree: Tree) -> None:
    needs(tree, "cpuset")
    with pytest.raises(UnsupportedError, match=r"cpuset .* no core 4096"):
        tree.dirs(Limits(cpuset="0,4096"))
    with made(tree, Limits()) as attach:
        assert run(attach, lambda: None) == 0
    written = [text for one in tree.dirs(Limits(cpuset="0,4096"), degrade=True) for _, text in one.files]
    assert "0,4096" not in written


@pytest.fixture
def direct_file(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that writes 1 MB past the page cache, which is what both versions charge to the writer."""
    path = tmp_path / "data"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"no O_DIRECT in {tmp_path}: {error}")
    block = mmap.mmap(-1, 1 << 16)

    def write() -> None:
        for _ in range(16):
            os.write(descriptor, block)

    yield write
    os.close(descriptor)


def test_bytes_to_and_from_disks_are_counted(tree: Tree, direct_file: Callable[[], None]) -> None:
    needs(tree, "io")
    with made(tree, Limits()) as attach:
        assert run(attach, direct_file) == 0
        reading = tree.read("t1")
    assert reading.write_bytes is not None
    assert MB <= reading.write_bytes < 2 * MB
    assert reading.read_bytes is not None


def test_a_rate_of_io_holds(tree: Tree, direct_file: Callable[[], None]) -> None:
    needs(tree, "io")
    with made(tree, Limits(io_write=MB, io_read=MB)) as attach:
        started = time.monotonic()
        assert run(attach, direct_file) == 0
    assert time.monotonic() - started > 0.6


def test_a_frozen_group_stands_still_and_goes_on_when_thawed(tree: Tree) -> None:
    needs(tree, "freezer")
    counter = mmap.mmap(-1, 8)

    def count() -> None:
        while True:
            counter[0] = (counter[0] + 1) % 256
            time.sleep(0.001)

    def moves() -> bool:
        before = counter[0]
        time.sleep(0.05)
        return counter[0] != before

    with made(tree, Limits(timeout=1)) as attach:
        pid = start(attach, count)
        try:
            while not counter[0]:
                time.sleep(0.001)
            assert tree.processes("t1") == (pid,)
            assert tree.freeze("t1")
            assert not moves()
            tree.thaw("t1")
            assert moves()
        finally:
            tree.thaw("t1")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_frozen_group_can_be_cleared(tree: Tree) -> None:
    needs(tree, "freezer")
    with made(tree, Limits(timeout=1)) as attach:
        pid = start(attach, lambda: time.sleep(60))
        assert tree.freeze("t1")
        for path in attach:
            group._kill(os.path.dirname(path))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_devices_but_the_harmless_ones_are_closed(tree: Tree) -> None:
    if "devices" not in tree.controllers:
        pytest.skip("no devices controller: v2, or not root")
    with made(tree, Limits()) as attach:
        assert run(attach, lambda: os.open("/dev/null", os.O_RDWR)) == 0
        assert run(attach, os.openpty) == 0
        assert run(attach, lambda: os.open("/dev/kmsg", os.O_RDONLY)) == errno.EPERM


def test_a_file_of_the_lower_layer_can_be_deleted_without_device_rights(tree: Tree, tmp_path: Path) -> None:
    """overlayfs makes a device node 0:0 for it."""
    if "devices" not in tree.controllers:
        pytest.skip("no devices controller: v2, or not root")
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").touch()

    def delete() -> None:
        os.chdir(tmp_path)
        if os.system(
            "unshare -m sh -c 'mount -t tmpfs t upper && mkdir upper/u upper/w && "
            "mount -t overlay o -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged && "
            "rm merged/file && "
            "test -c upper/u/file' >&2"
        ):
            raise OSError(99, "")

    with made(tree, Limits()) as attach:
        assert run(attach, delete) == 0


def test_what_a_dead_session_left_is_swept_with_its_processes(tree: Tree) -> None:
    needs(tree, "pids")
    reader, writer = os.pipe()
    dead = os.fork()
    if not dead:
        left = find(session_name(), "main", GIVEN)
        # Not `made`: it cleans up. A grandchild stays in the groups when we are gone.
        attach = []
        for one in left.dirs(Limits(pids=3)):
            os.mkdir(f"{one.parent}/t1")
            for file, text in one.files:
                group.put(f"{one.parent}/t1/{file.lstrip('?')}", text)
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


def test_a_living_session_and_strangers_are_not_swept(tree: Tree) -> None:
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


def test_close_agrees_with_a_builder_that_has_removed_everything() -> None:
    before = state()
    tree = find(session_name(), "main", GIVEN)
    for path in tree.cleanup:
        os.rmdir(path)
    assert tree.read("t1").oom_kills == 0
    assert tree.processes("t1") == ()
    tree.close()
    assert state() == before


def test_a_test_s_group_that_was_left_goes_with_its_worker(tree: Tree) -> None:
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


def test_groups_stay_below_the_one_we_are_in(tree: Tree) -> None:
    """So that a limit of the user's own group goes on holding."""
    if GIVEN is not None:
        pytest.skip("the group is given")
    own = [
        line.split(":", 2)[2].removesuffix("/pytest-isolate-supervisor")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
    ]
    for path in tree.cleanup:
        assert any(path.partition(f"{place.rstrip('/')}/pytest-isolate-")[1] for place in own), path


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
    assert all(reason and remedy.endswith(".") for reason, remedy in tree.lacks.values())
