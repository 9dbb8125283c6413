"""A Spec, and keys that contradict each other."""

from __future__ import annotations

import pytest

from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.key_values import parse
from pytest_isolate.spec.keys import KEYS
from pytest_isolate.spec.spec import Limits, Spec, conflict

M = 1 << 20


def test_closed_ports_and_the_hosts_network_contradict_each_other() -> None:
    with pytest.raises(SpecError, match="host_ports"):
        Spec.of(network="host", host_ports="none")


def test_swap_needs_memory_to_come_on_top_of() -> None:
    alone = Spec(limits=Limits(swap=M))

    assert conflict(alone) is not None
    assert conflict(Spec(limits=Limits(swap=M, memory=M))) is None
    assert conflict(Spec()) is None
    with pytest.raises(SpecError, match=r'swap="1M" comes on top of memory, and no memory is set'):
        Spec.of(swap="1M")


def test_a_library_user_writes_a_spec_as_in_the_marker() -> None:
    assert Spec.of(memory="50M", writable="out", base="/project") == Spec(
        limits=Limits(memory=50 * M), writable=("/project/out",), asked=frozenset({"memory", "writable"})
    )
    with pytest.raises(SpecError, match=r"^Spec\.of: mem=3: there is no key 'mem'"):
        Spec.of(mem=3)


def test_every_field_of_a_spec_is_set_by_a_key_and_every_key_sets_fields() -> None:
    samples = {
        "memory": "1M", "swap": "1M", "cpus": 1, "cpuset": "0", "pids": 1, "io": {"read": 1}, "disk": "1M",
        "timeout": 1, "network": "host", "host_ports": 80, "hostname": "x", "user": "root", "writable": "x", "env": {},
        "image": "busybox", "devices": "/dev/fuse", "leaks": "fail", "exclusive": True, "nested": True,
    }  # fmt: skip
    assert samples.keys() == KEYS.keys()

    set_by_keys = {name for key, value in samples.items() for name in parse(key, value, "here")}

    assert set_by_keys == (set(Limits.__dataclass_fields__) | set(Spec.__dataclass_fields__)) - {"limits", "asked"}
