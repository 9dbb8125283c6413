"""Where groups are looked for, what is written into them, and what is said where there are none: on made-up hosts."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_isolate.cgroups import find, names, systemd, v1, v2
from pytest_isolate.cgroups.branch import Tenant, quota
from pytest_isolate.cgroups.delegation import is_ours
from pytest_isolate.cgroups.disks import disks, is_stacked
from pytest_isolate.cgroups.refusal import Refusal, because
from pytest_isolate.cgroups.tree import Groups, cores
from pytest_isolate.cgroups.where import hierarchies
from pytest_isolate.errors import SpecError, UnsupportedError
from pytest_isolate.spec import Limits

ME = 4711
MB = 1 << 20


class Host:
    """A machine's /proc, with cgroup file systems that are plain directories."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / str(ME)).mkdir(parents=True)
        (self.proc / "self").symlink_to(str(ME))
        self.in_pid_namespace(ME, 99)
        self.process(ME, ppid=1, sid=ME, start=500)
        self._lines: list[str] = []
        self.place()

    def in_pid_namespace(self, pid: int, namespace: int) -> None:
        link = self.proc / str(pid) / "ns" / "pid"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"pid:[{namespace}]")

    def process(self, pid: int, ppid: int, sid: int, start: int = 1, name: str = "a) b (c") -> None:
        directory = self.proc / str(pid)
        directory.mkdir(exist_ok=True)
        fields = ["S", str(ppid), str(pid), str(sid), *["0"] * 15, str(start), "0"]
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (directory / "comm").write_text(f"{name}\n")

    def mount(self, where: str, kind: str, options: str = "rw", root: str = "/", device: str = "0:30") -> Path:
        place = self.root / where
        place.mkdir(parents=True, exist_ok=True)
        shown = str(place).replace(" ", "\\040")
        self._lines.append(f"{30 + len(self._lines)} 1 {device} {root} {shown} rw,relatime - {kind} {kind} {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(self._lines) + "\n")
        return place

    def place(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        (self.proc / "self" / "mountinfo").touch()

    def look(self) -> dict[str, str | None]:
        return {",".join(sorted(one.controllers)) or "v2": one.own for one in hierarchies(self.proc)}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def no_scope(*_: object) -> None:
    raise Refusal("no bus", "Start one.")


def test_each_v1_controller_is_found_at_its_own_mount(host: Host) -> None:
    memory = host.mount("cg/memory", "cgroup", "rw,memory")
    both = host.mount("cg/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    (memory / "a" / "b").mkdir(parents=True)
    host.place("5:memory:/a/b", "3:cpu,cpuacct:/", "2:net_cls:/", "1:name=systemd:/x")
    assert host.look() == {"memory": f"{memory}/a/b", "cpu,cpuacct": str(both)}


def test_a_hybrid_host_has_v2_last(host: Host) -> None:
    host.mount("unified", "cgroup2")
    host.mount("pids", "cgroup", "rw,pids")
    host.place("0::/", "4:pids:/")
    assert [one.version for one in hierarchies(host.proc)] == [1, 2]


def test_a_group_is_found_below_a_mount_that_shows_only_a_part(host: Host) -> None:
    """Docker without a cgroup namespace: the container's group is mounted, /proc shows the whole path."""
    place = host.mount("cg", "cgroup2", root="/docker/abc")
    (place / "sub").mkdir()
    host.place("0::/docker/abc/sub")
    assert host.look() == {"v2": f"{place}/sub"}


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/../outside", "/"),
        ("/", "/../other"),
        ("/docker/abcd", "/docker/abc"),
        ("/gone (deleted)", "/"),
        ("/hid", "/"),
    ],
)
def test_a_group_outside_of_the_mount_is_unusable(host: Host, path: str, root: str) -> None:
    (host.root / "cg" / "gone (deleted)").mkdir(parents=True)
    (host.root / "cg" / "d").mkdir()
    host.mount("cg", "cgroup2", root=root)
    host.place(f"0::{path}")
    assert host.look() == {"v2": None}
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    assert f"group {path} lies outside of what is mounted at {host.root}/cg" in tree.lacks["memory"][0]
    assert "--cgroupns=private" in tree.lacks["memory"][1]


def test_of_several_mounts_one_that_holds_the_group_is_taken(host: Host) -> None:
    host.mount("elsewhere", "cgroup2", root="/other")
    right = host.mount("with blank", "cgroup2")
    host.mount("later", "cgroup2", root="/yet/another")
    host.place("0::/")
    assert host.look() == {"v2": str(right)}


def test_a_hierarchy_that_is_not_mounted_is_left_out(host: Host) -> None:
    host.place("0::/", "4:pids:/")
    assert host.look() == {}
    tree = find("s", "w", proc=host.proc)
    assert (tree.version, tree.controllers) == ("none", frozenset())
    assert "no mounted cgroup hierarchy" in tree.lacks["pids"][0]


def test_a_v2_group_without_controllers_says_so(host: Host) -> None:
    place = host.mount("cg", "cgroup2")
    (place / "cgroup.controllers").write_text("hugetlb\n")
    host.place("0::/")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    assert "names no controller that limits need (only hugetlb)" in tree.lacks["memory"][0]
    assert "no bus" not in tree.lacks["memory"][0], "a scope would have no controllers either"


def test_a_group_with_a_stranger_is_left_alone_and_a_scope_is_tried(host: Host) -> None:
    place = host.mount("cg", "cgroup2")
    own = place / "user.scope"
    own.mkdir()
    for directory in (place, own):
        (directory / "cgroup.controllers").write_text("memory pids\n")
    (own / "cgroup.subtree_control").write_text("")
    (own / "cgroup.type").write_text("domain\n")
    (own / "cgroup.procs").write_text(f"{ME}\n77\n0\n")
    host.process(77, ppid=1, sid=77, name="sshd")
    host.place("0::/user.scope")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    reason, remedy = tree.lacks["memory"]
    assert "77 sshd, one outside of this pid namespace" in reason
    assert reason.endswith("; no bus")
    assert "systemd-run --user --scope -p Delegate=yes pytest" in remedy
    assert not (own / names.SUPERVISOR).exists()
    with pytest.raises(UnsupportedError, match="memory cannot be enforced here"):
        tree.dirs(Limits(memory=MB))
    assert tree.dirs(Limits(memory=MB), degrade=True) == ()


def test_a_given_group_without_any_use_is_an_error_that_names_it(host: Host) -> None:
    host.mount("cg", "cgroup2")
    host.place("0::/")
    with pytest.raises(
        SpecError, match=r"--isolate-cgroup=/mine: no controller is usable there: .*cg/mine does not exist"
    ):
        find("s", "w", "/mine", proc=host.proc)


def test_session_names_tell_who_and_since_when(host: Host) -> None:
    assert names.session_name(host.proc) == f"pytest-isolate-99-{ME}-500"
    assert names.session_pid(f"pytest-isolate-99-{ME}-500") == ME


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        (f"pytest-isolate-99-{ME}-500", False),
        (f"pytest-isolate-99-{ME}-499", True),  # the pid has come to name another process
        ("pytest-isolate-99-4712-500", True),
        ("pytest-isolate-98-4712-500", False),  # of another pid namespace: can't know
        ("pytest-isolate-supervisor", False),
        ("pytest-isolate-99-4712-500-mine", False),
        ("user.slice", False),
    ],
)
def test_only_dead_sessions_are_dead(host: Host, name: str, dead: bool) -> None:  # noqa: FBT001
    assert names.is_dead_session(name, host.proc) is dead


def test_the_first_pid_namespace_sees_which_others_have_ended(host: Host) -> None:
    host.in_pid_namespace(ME, 0xEFFFFFFC)
    host.in_pid_namespace(4712, 98)
    (host.proc / "4713").mkdir()  # a zombie has no namespaces any more

    assert not names.is_dead_session("pytest-isolate-98-1-500", host.proc)
    assert names.is_dead_session("pytest-isolate-97-1-500", host.proc)


@pytest.mark.parametrize(("pids", "dead"), [("4712", True), ("4712\t1", False)])
def test_a_process_that_one_may_not_look_at_can_be_of_a_nested_pid_namespace_only(
    host: Host, monkeypatch: pytest.MonkeyPatch, pids: str, *, dead: bool
) -> None:
    host.in_pid_namespace(ME, 0xEFFFFFFC)
    host.in_pid_namespace(4712, 98)
    (host.proc / "4712" / "status").write_text(f"Name:\ta\nNSpid:\t{pids}\nNSpgid:\t4712\n")
    readlink = os.readlink

    def refuse(path: Path) -> str:
        if "4712" in str(path):
            raise PermissionError(errno.EACCES, "")
        return readlink(path)

    monkeypatch.setattr(os, "readlink", refuse)

    assert names.is_dead_session("pytest-isolate-97-1-500", host.proc) is dead


@pytest.mark.parametrize(
    ("pid", "ours"),
    [
        (10, True),  # an ancestor: the login shell
        (ME, True),
        (20, True),  # a child
        (30, True),  # a job of the same shell: the session is led by an ancestor
        (40, False),  # a daemon
        (50, True),  # it has just ended
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
    assert is_ours(pid, host.proc) is ours


ALL = {"memory", "swap", "cpu", "cpuset", "pids", "io"}
FULL = Limits(memory=50 * MB, swap=MB, cpus=0.5, cpuset="0", pids=20, io_read=100, io_write=200)


def test_v2_limits_come_in_the_order_that_the_kernel_takes() -> None:
    assert v2.limit_files(FULL, ALL, ("8:0",)) == [
        ("memory.max", "52428800"),
        ("memory.swap.max", "1048576"),
        ("?memory.oom.group", "1"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "20"),
        ("io.max", "8:0 rbps=100 wbps=200"),
    ]
    assert v2.limit_files(Limits(), ALL, ("8:0",)) == []
    assert v2.limit_files(FULL, set(), ("8:0",)) == []
    assert v2.limit_files(Limits(io_write=7), ALL, ("8:0", "9:1"))[1] == ("io.max", "9:1 wbps=7")


def test_v1_caps_memory_before_the_sum_with_swap() -> None:
    assert v1.limit_files(FULL, ALL, ("8:0",)) == [
        ("memory.limit_in_bytes", "52428800"),
        ("memory.memsw.limit_in_bytes", "53477376"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("pids.max", "20"),
        ("blkio.throttle.read_bps_device", "8:0 100"),
        ("blkio.throttle.write_bps_device", "8:0 200"),
    ]
    assert v1.limit_files(Limits(), ALL, ("8:0",)) == []


def test_v1_writes_no_quota_that_one_above_makes_void() -> None:
    assert v1.limit_files(Limits(cpus=2), {"cpu"}, (), ceiling=1.5) == []
    assert v1.limit_files(Limits(cpus=1), {"cpu"}, (), ceiling=1.5) != []


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(0.5, (50_000, 100_000)), (4, (400_000, 100_000)), (0.005, (5000, 1_000_000)), (0.0001, (1000, 1_000_000))],
)
def test_a_quota_stays_within_what_the_kernel_takes(cpus: float, expected: tuple[int, int]) -> None:
    assert quota(cpus) == expected


@pytest.mark.parametrize(("text", "expected"), [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("", set()), ("3,1-1", {1, 3})])
def test_lists_of_cores_are_read_as_the_kernel_writes_them(text: str, expected: set[int]) -> None:
    assert cores(text) == expected


class Fake(v2.V2):
    """A branch that has been probed, without a kernel."""

    def __init__(self, *usable: str) -> None:
        super(v2.V2, self).__init__("/base", Tenant(session="s", worker="w"))
        self.usable = set(usable)

    def cores(self) -> str:
        return "0-1"


LACKS = dict.fromkeys((*ALL, "freezer"), ("it was tried: EPERM", "Do this."))


def test_each_limit_that_cannot_hold_is_named_by_its_key(host: Host) -> None:
    tree = Groups([Fake("memory", "swap")], LACKS, host.proc)
    assert [error.key for error in tree.missing(FULL)] == ["cpus", "cpuset", "pids", "io"]
    assert tree.missing(Limits(memory=MB)) == ()
    assert tree.dirs(FULL, degrade=True)[0].files[0] == ("memory.max", str(50 * MB))
    with pytest.raises(UnsupportedError, match=r"^cpus cannot be enforced here: it was tried: EPERM\. Do this\.$"):
        tree.dirs(FULL)


@pytest.mark.parametrize(
    ("swaps", "limits", "keys"),
    [
        ("Filename Type\n", Limits(memory=MB), []),  # no swap to escape to
        ("Filename Type\n/dev/sda2 partition\n", Limits(memory=MB), ["swap"]),
        ("Filename Type\n/dev/sda2 partition\n", Limits(), []),
        ("Filename Type\n/dev/sda2 partition\n", Limits(swap=MB), []),
        ("Filename Type\n", Limits(memory=MB, swap=MB), []),
    ],
)
def test_a_kernel_without_swap_accounting_matters_where_there_is_swap(
    host: Host, swaps: str, limits: Limits, keys: list[str]
) -> None:
    (host.proc / "swaps").write_text(swaps)
    tree = Groups([Fake("memory")], LACKS, host.proc)
    assert [error.key for error in tree.missing(limits)] == keys


def test_cores_outside_of_the_group_s_are_refused_and_left_out_when_degrading(host: Host) -> None:
    tree = Groups([Fake("cpuset")], LACKS, host.proc)
    with pytest.raises(UnsupportedError, match=r"no core 2-3\. Choose among 0-1\."):
        tree.dirs(Limits(cpuset="1-3"))
    assert tree.dirs(Limits(cpuset="1-3"), degrade=True)[0].files == ()
    assert tree.dirs(Limits(cpuset="1"))[0].files == (("cpuset.cpus", "1"),)


def test_a_figure_that_the_kernel_does_not_give_is_none(host: Host, tmp_path: Path) -> None:
    branch = Fake("memory")
    branch.worker = str(tmp_path / "w")
    test = tmp_path / "w" / "t1"
    test.mkdir(parents=True)
    (test / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (test / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (test / "io.stat").write_text("8:0 rbytes=10 wbytes=20\n")
    reading = Groups([branch], LACKS, host.proc).read("t1")
    assert (reading.cpu_seconds, reading.oom_kills, reading.pids_denied) == (1.5, 2, 0)
    assert (reading.memory_peak_bytes, reading.pids_peak, reading.read_bytes) == (None, None, None)
    branch.usable.add("io")
    (test / "io.stat").write_text("8:0 rbytes=10 wbytes=20\n254:1 rbytes=1 wbytes=2 rios=9\n7:0 rbytes=500 wbytes=0\n")
    branch._stacked = {"8:0": False, "254:1": False}
    reading = Groups([branch], LACKS, host.proc).read("t1")
    assert (reading.read_bytes, reading.write_bytes) == (11, 22)


def test_partitions_stand_for_their_disk_and_anonymous_devices_for_what_lies_behind(host: Host, tmp_path: Path) -> None:
    block = tmp_path / "sys" / "block"
    for name, device in (("sda", "8:0"), ("sda/sda1", "8:1"), ("dm-0", "253:0")):
        directory = tmp_path / "sys" / "devices" / name
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{device}\n")
        block.mkdir(exist_ok=True)
        (block / device).symlink_to(directory)
    (block / "8:1" / "partition").write_text("1\n")
    (block / "253:0" / "slaves" / "sda1").mkdir(parents=True)
    (block / "8:0" / "slaves").mkdir()
    host.mount("root", "ext4", device="8:1")
    host.mount("home", "xfs", device="253:0")
    host.mount("run", "tmpfs", device="0:21")
    host.mount("gone", "ext4", device="8:99")
    assert disks(host.proc, block) == ("253:0", "8:0")
    assert is_stacked("253:0", block)
    assert not is_stacked("8:0", block)
    assert is_stacked("7:3", block)
    upper = tmp_path
    status = os.stat(upper)
    if os.major(status.st_dev):
        device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        (block / device).mkdir(exist_ok=True)
        host.mount("merged", "overlay", options=f"rw,lowerdir=/x,upperdir={upper},workdir=/y", device="0:40")
        assert device in disks(host.proc, block)


@pytest.mark.parametrize(
    ("number", "version", "remedy"),
    [
        (errno.EACCES, 2, "systemd-run --user --scope"),
        (errno.EACCES, 1, "Run as root"),
        (errno.EROFS, 2, "--privileged"),
        (errno.EBUSY, 2, "Delegate=yes"),
        (errno.ENOSPC, 2, "--isolate-cgroup"),
    ],
)
def test_each_errno_has_its_remedy(number: int, version: int, remedy: str) -> None:
    refusal = because("make a group in /cg", OSError(number, "", "/cg/x"), version)
    assert refusal.reason == (f"cannot make a group in /cg (/cg/x): {errno.errorcode[number]} ({os.strerror(number)})")
    assert remedy in refusal.remedy


SESSION = f"pytest-isolate-99-{ME}-500"


class Busctl:
    """A bus that answers as told, and moves the session if it says yes."""

    def __init__(self, host: Host, status: int = 0, said: str = "", *, moves: bool = True) -> None:
        self.host, self.status, self.said, self.moves = host, status, said, moves
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(list(command))
        if self.moves:
            self.host.place(f"0::/user.slice/{SESSION}.scope")
        return self.status, self.said


def test_a_scope_is_asked_for_with_all_of_the_session_s_processes(host: Host) -> None:
    host.place("0::/user.slice/user-1000.slice/session-2.scope")
    host.process(5001, ppid=ME, sid=ME)
    host.process(5002, ppid=5001, sid=5002)
    host.process(6000, ppid=1, sid=6000)
    bus = Busctl(host)
    systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=1000)
    assert " ".join(bus.commands[0]) == (
        "busctl --user --quiet call "
        "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit "
        f"ssa(sv)a(sa(sv)) {SESSION}.scope fail 4 "
        "Description s isolated pytest session Delegate b true CollectMode s inactive-or-failed "
        f"PIDs au 3 {ME} 5001 5002 0"
    )


def test_root_asks_the_system_s_bus(host: Host) -> None:
    bus = Busctl(host)
    systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=0)
    assert bus.commands[0][1] == "--system"


def test_another_worker_s_scope_is_waited_for(host: Host) -> None:
    bus = Busctl(host, 1, f"Call failed: Unit {SESSION}.scope was already loaded or has a fragment file.")
    systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=1000)


def test_a_bus_that_does_not_answer_is_a_refusal(host: Host) -> None:
    with pytest.raises(Refusal) as refused:
        systemd.start_scope(SESSION, "/", host.proc, Busctl(host, 1, "No medium found", moves=False), uid=1000)
    assert "busctl says 'No medium found' (status 1)" in refused.value.reason

    def absent(_: Sequence[str]) -> tuple[int, str]:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with pytest.raises(Refusal) as refused:
        systemd.start_scope(SESSION, "/", host.proc, absent, uid=1000)
    assert refused.value.reason == "cannot run busctl: No such file or directory"


def test_a_scope_that_never_comes_is_a_refusal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_SECONDS", 0.05)
    with pytest.raises(Refusal) as refused:
        systemd.start_scope(SESSION, "/", host.proc, Busctl(host, moves=False), uid=1000)
    assert "did not move us" in refused.value.reason


@pytest.mark.parametrize(
    ("path", "file", "uid", "lifted"),
    [
        ("/user.slice/user-1000.slice/session-2.scope", "memory.max", 1000, True),
        ("/user.slice/user-1000.slice", "memory.max", 1000, False),  # holds for the scope as well
        ("/system.slice/ci.service", "pids.max", 1000, True),
        ("/system.slice", "pids.max", 0, False),
        ("/system.slice/ci.service", "cpu.max", 0, True),
    ],
)
def test_no_scope_is_asked_for_that_lifts_a_limit(host: Host, path: str, file: str, uid: int, lifted: bool) -> None:  # noqa: FBT001
    group = host.root / path.strip("/")
    group.mkdir(parents=True)
    (group / file).write_text("1000\n")
    host.place(f"0::{path}/deeper")
    bus = Busctl(host)
    if lifted:
        with pytest.raises(Refusal, match="would lift the limit") as refused:
            systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=uid)
        assert f"{group}/{file}=1000" in refused.value.reason
        assert bus.commands == []
    else:
        systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=uid)


def test_the_command_of_a_runner_is_run() -> None:
    assert systemd.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr")
