"""From tries that fail in the ways of real hosts to what they lack."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_isolate.linux import mountinfo
from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan import host_tree
from pytest_isolate.plan.host_tree import Entry, HostTree
from pytest_isolate.plan.operations import Step
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.requirements import unsupported
from pytest_isolate.sandbox.probe.probe import probe
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

Refuse = Callable[[Plan], SetupError | None]


def refusing(step: Step, kind: str = "", code: int = errno.EPERM, target: str = "") -> Refuse:
    """A host on which one operation fails."""

    def attempt(plan: Plan) -> SetupError | None:
        for op in plan.ops:
            if op.step is step and (not kind or op.kind == kind) and (not target or op.target == target):
                return SetupError("do it", op.target, code)
        return None

    return attempt


def test_where_all_works_one_try_says_so() -> None:
    tried: list[Plan] = []
    host = probe(tried.append)
    assert len(tried) == 1
    assert host.sandbox
    assert host.lacks == ()


def test_where_nothing_may_be_cloned_that_is_the_lack() -> None:
    host = probe(lambda _: SetupError("clone", "namespaces", errno.EPERM))
    assert not host.sandbox
    assert host.capabilities() == frozenset()
    assert host.lacks[0].what == "userns"


def test_a_masked_proc_costs_the_fresh_proc_alone() -> None:
    host = probe(refusing(Step.MOUNT, "proc"))
    assert host.sandbox
    assert not host.fresh_proc
    assert [lack.what for lack in host.lacks] == ["fresh_proc"]


def test_a_tmpfs_without_attributes_sends_the_layers_to_disk(tmp_path: Path) -> None:
    used: set[str] = set()

    def attempt(plan: Plan) -> SetupError | None:
        if plan.scratch:
            used.add(os.path.dirname(plan.scratch))
        return None if plan.scratch else refusing(Step.RMDIR_PROBE, code=errno.EIO)(plan)

    host = probe(attempt, scratch=[str(tmp_path / "missing"), str(tmp_path)])
    assert (host.scratch, host.sandbox) == (str(tmp_path), True)
    assert "tmpfs_xattr" not in host.capabilities()
    # Each in a folder of this look's own: another session may look at the same moment.
    assert used == {str(tmp_path)}
    assert not list(tmp_path.iterdir())


def test_without_overlays_there_is_no_sandbox() -> None:
    host = probe(refusing(Step.MOUNT, "overlay", errno.ENODEV))
    assert not host.sandbox
    assert [lack.what for lack in host.lacks] == ["overlay"]
    assert "modprobe overlay" in host.lacks[0].remedy


def test_where_overlays_take_no_further_one_a_few_tries_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    tops = [f"/{number}" for number in range(30)]
    mounts = [f"{2 + number} 1 0:9 / {top} rw - overlay overlay rw" for number, top in enumerate(tops)]
    table = b"\n".join(line.encode() for line in ["1 0 0:8 / / rw - ext4 /dev/vda rw", *mounts])
    points = {path: Entry(path=path, kind="directory") for path in ("/", *tops)}
    tree = HostTree(mounts=mountinfo.parse(table), points=points, skeleton=tuple(points.values()))
    monkeypatch.setattr(host_tree, "look", lambda **_: tree)

    def attempt(plan: Plan) -> SetupError | None:
        stacked = [op.target for op in plan.ops if op.kind == "overlay" and op.target.removeprefix("/new") in tops]
        return SetupError("mount overlay", stacked[0], errno.EINVAL) if stacked else None

    host = probe(attempt)

    assert not host.sandbox
    assert [lack.target for lack in host.lacks if lack.what == "tree"] == tops[:7]
    assert "stacked two deep" in host.lacks[0].remedy


def test_directories_that_somebody_removes_meanwhile_are_no_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [Entry(path=f"/var/gone-{number}", kind="directory") for number in range(20)]
    tops = tuple(Entry(path=path, kind="directory") for path in ("/", "/proc", "/var"))
    root = mountinfo.parse(b"1 0 0:8 / / rw - ext4 /dev/vda rw")
    tree = HostTree(mounts=root, points={"/": tops[0]}, skeleton=tops, traps=tuple(gone))
    monkeypatch.setattr(host_tree, "look", lambda **_: tree)

    def attempt(plan: Plan) -> SetupError | None:
        if not plan.namespaces & Clone.NEWUSER:
            return SetupError("clone", "namespaces", errno.EPERM)
        missing = [op.target for op in plan.ops if op.target.startswith("/new/var/gone-")]
        return SetupError("mount overlay", missing[0], errno.ENOENT) if missing else None

    host = probe(attempt)

    assert host.sandbox
    assert not [lack for lack in host.lacks if lack.what == "tree"]


def test_a_network_namespace_too_many_costs_the_network_alone() -> None:
    def attempt(plan: Plan) -> SetupError | None:
        made = plan.namespaces | Clone(next((op.number for op in plan.ops if op.step is Step.UNSHARE), 0))
        return SetupError("clone", "namespaces", errno.ENOSPC) if made & Clone.NEWNET else None

    host = probe(attempt)
    assert host.sandbox
    assert [key for key, _ in unsupported(Spec(), host)] == ["network"]
    assert "user.max_net_namespaces" in host.lacks[0].remedy
