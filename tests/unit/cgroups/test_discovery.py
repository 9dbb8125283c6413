"""Which group is taken, and what is said where there is none."""

from __future__ import annotations

import pytest

from pytest_isolate.cgroups import session_names
from pytest_isolate.cgroups.discovery import find
from pytest_isolate.cgroups.refusals import Refusal
from pytest_isolate.spec.errors import SpecError, UnsupportedError
from pytest_isolate.spec.spec import Limits
from tests.support.cgroup_host import ME, Host

MB = 1 << 20


def no_scope(*_: object) -> None:
    raise Refusal("no bus", "Start one.")


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


def test_a_v2_group_without_controllers_says_so(host: Host) -> None:
    place = host.mount("cg", "cgroup2")
    (place / "cgroup.controllers").write_text("hugetlb\n")
    host.place("0::/")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    assert "names no controller that limits need (only hugetlb)" in tree.lacks["memory"][0]
    assert "no bus" not in tree.lacks["memory"][0], "a scope would have no controllers either"


@pytest.mark.parametrize(("above", "remedy"), [("memory pids", "user@.service.d"), ("hugetlb", "built without it")])
def test_a_controller_that_no_group_above_has_cannot_be_handed_down(host: Host, above: str, remedy: str) -> None:
    place = host.mount("cg", "cgroup2")
    own = place / "user.scope"
    own.mkdir()
    (place / "cgroup.controllers").write_text(f"{above}\n")
    (own / "cgroup.controllers").write_text("hugetlb\n")
    host.place("0::/user.scope")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    assert remedy in tree.lacks["pids"][1]


def test_a_group_with_a_stranger_is_left_alone_and_a_scope_is_tried(host: Host) -> None:
    place = host.mount("cg", "cgroup2")
    own = place / "user.scope"
    own.mkdir()
    for directory in (place, own):
        (directory / "cgroup.controllers").write_text("memory pids\n")
    (own / "cgroup.subtree_control").write_text("")
    (own / "cgroup.type").write_text("domain\n")
    (own / "cgroup.procs").write_text(f"{ME}\n77\n0\n")
    host.process(77, ppid=1, sid=77, words=["sshd"])
    host.place("0::/user.scope")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    reason, remedy = tree.lacks["memory"]
    assert "77 sshd, one outside of this pid namespace" in reason
    assert reason.endswith("; no bus")
    assert "systemd-run --user --scope -p Delegate=yes pytest" in remedy
    assert not (own / session_names.SUPERVISOR).exists()
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


def test_of_two_reasons_for_a_controller_that_of_its_v1_hierarchy_is_told(host: Host) -> None:
    host.mount("unified", "cgroup2")
    host.mount("memory", "cgroup", "rw,memory")
    host.place("0::/../two", "4:memory:/../one")
    tree = find("s", "w", proc=host.proc, start_scope=no_scope)
    assert "group /../one lies outside" in tree.lacks["memory"][0]
    assert "group /../two lies outside" in tree.lacks["cpu"][0]
