"""Sessions say by their names whose they are, so that those of the dead can be swept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_isolate.cgroups import session_names
from pytest_isolate.linux.calls import calls
from tests.support.cgroup_host import ME, Host


def test_session_names_tell_who_and_since_when(host: Host) -> None:
    assert session_names.session_name(host.proc) == f"pytest-isolate-99-{ME}-500"
    assert session_names.session_pid(f"pytest-isolate-99-{ME}-500") == ME


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
    assert session_names.is_dead_session(name, host.proc) is dead


def test_the_first_pid_namespace_sees_which_others_have_ended(host: Host) -> None:
    host.in_pid_namespace(ME, 0xEFFFFFFC)
    host.in_pid_namespace(4712, 98)
    (host.proc / "4713").mkdir()  # a zombie has no namespaces any more

    assert not session_names.is_dead_session("pytest-isolate-98-1-500", host.proc)
    assert session_names.is_dead_session("pytest-isolate-97-1-500", host.proc)


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

    monkeypatch.setattr(type(calls), "readlink", staticmethod(refuse))

    assert session_names.is_dead_session("pytest-isolate-97-1-500", host.proc) is dead
