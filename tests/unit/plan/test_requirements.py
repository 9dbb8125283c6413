"""What a Spec asks for that the host lacks."""

from __future__ import annotations

import pytest

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.host import Host, Lack
from pytest_isolate.plan.requirements import unsupported
from pytest_isolate.spec.spec import Spec
from tests.support.hosts import HOST


def lacking(*lacks: Lack, **facts: object) -> Host:
    return HOST._replace(lacks=lacks, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "spec", "keys"),
    [
        (HOST, Spec(), []),
        (lacking(Lack(what="userns", step="", target=""), namespaces=Clone(0)), Spec(), ["isolate"]),
        (lacking(Lack(what="netns", step="", target="")), Spec(), ["network"]),
        (lacking(Lack(what="netns", step="", target="")), Spec(network="host"), []),
        (lacking(Lack(what="fresh_proc", step="", target="/proc")), Spec(), ["isolate"]),
        (lacking(scratch="/var/tmp"), Spec(), []),
        (lacking(scratch="/var/tmp"), Spec.of(disk="1M"), ["disk"]),
    ],
)
def test_each_lack_is_told_under_the_key_that_it_takes_away(host: Host, spec: Spec, keys: list[str]) -> None:
    assert [key for key, _ in unsupported(spec, host)] == keys


def test_a_tree_without_overlay_matters_where_tests_write() -> None:
    host = lacking(Lack(what="tree", step="mount overlay", target="/mnt/c"))
    assert unsupported(Spec(), host) == []
    host = host._replace(tree=host.tree._replace(important=("/mnt/c/project",)))
    assert [key for key, _ in unsupported(Spec(), host)] == ["isolate"]
    assert unsupported(Spec.of(writable=["/mnt/c/project"]), host) == []
