from __future__ import annotations

from pytest_isolate.spec.spec import Spec
from pytest_isolate.testing import Isolated

SPEC = Spec.of(memory="50M", cpus=1)


def test_a_key_that_the_host_cannot_enforce_is_not_in_force() -> None:
    weak = Isolated(SPEC, {"memory": "no controller"})
    assert weak
    assert not weak.in_force("memory")
    assert not weak.in_force("swap")
    assert weak.in_force("cpus")


def test_without_namespaces_only_limits_can_be_in_force() -> None:
    bare = Isolated(SPEC, {"isolate": "no namespaces"})
    assert not bare
    assert not bare.in_force("isolate")
    assert not bare.in_force("network")
    assert bare.in_force("memory")


def test_without_a_sandbox_nothing_is_in_force() -> None:
    none = Isolated()
    assert not none
    assert not any(none.in_force(key) for key in ("isolate", "memory", "network"))
