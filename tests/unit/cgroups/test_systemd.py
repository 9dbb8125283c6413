"""Scopes of systemd: how they are asked for, and when better not."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from pytest_isolate.cgroups import systemd
from pytest_isolate.cgroups.refusals import Refusal
from tests.support.cgroup_host import ME, Host

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
    host.process(5003, ppid=1, sid=5003, words=["isolate-builder", "1", f"for={ME}"])
    host.process(5004, ppid=5003, sid=5003)
    host.process(6000, ppid=1, sid=6000)
    bus = Busctl(host)
    systemd.start_scope(SESSION, str(host.root), host.proc, bus, uid=1000)
    command, _, pids = " ".join(bus.commands[0]).partition(" au 5 ")
    assert command == (
        "busctl --user --quiet call "
        "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit "
        f"ssa(sv)a(sa(sv)) {SESSION}.scope fail 4 "
        "Description s isolated pytest session Delegate b true CollectMode s inactive-or-failed PIDs"
    )
    # In which order a folder lists its entries depends on its file system.
    assert sorted(pids.split()) == sorted([str(ME), "5001", "5002", "5003", "5004", "0"])


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
