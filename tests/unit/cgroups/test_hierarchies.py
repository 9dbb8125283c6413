"""Where the groups of a process are: on made-up hosts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pytest_isolate.cgroups.discovery import find
from pytest_isolate.cgroups.hierarchies import Version, hierarchies, own_path
from tests.support.cgroup_host import Host


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


#: The kernel allows all but a line feed (kernel/cgroup/cgroup.c, cgroup_mkdir), and escapes nothing.
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\n"), min_size=1, max_size=40)


@given(names=st.lists(_NAMES, max_size=3))
def test_a_group_may_have_any_name(names: list[str]) -> None:
    path = "/" + "/".join(names)
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        host.mount("unified", "cgroup2")
        host.mount("pids", "cgroup", "rw,pids")
        host.place(f"4:pids:{path}", f"0::{path}")

        found = hierarchies(host.proc)

        assert [(one.controllers, one.path) for one in found] == [({"pids"}, path), (frozenset(), path)]
        assert [own_path(host.proc, version) for version in (Version.V1, Version.V2)] == [path, path]
