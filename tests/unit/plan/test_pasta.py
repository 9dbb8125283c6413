"""The way to the outside as data: commands, and the sandbox's resolv.conf."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan import pasta
from pytest_isolate.plan.operations import Step
from pytest_isolate.plan.pasta import Uplink
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.plan.requirements import unsupported
from pytest_isolate.spec.spec import Spec
from tests.support.hosts import HOST, ROOT

NAT = Spec.of(network="nat")
UPLINK = Uplink(
    program="/usr/bin/pasta", resolver="nameserver 192.0.2.53\n", answered=(), resolver_path="/run/resolv.conf"
)


def test_a_plan_has_two_programs_one_behind_the_other_and_both_closed() -> None:
    plan = plan_for(NAT, HOST, uplink=UPLINK)
    outer, inner = plan.uplink
    for words in (outer, inner):
        assert words[0] == "/usr/bin/pasta"
        assert "--no-map-gw" in words
        for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
            assert words[words.index(option) + 1] == "none"
        assert "--runas" not in words
    assert "--address" in outer
    assert "--address" not in inner


def test_root_stays_root_of_the_sandbox_s_user_namespace() -> None:
    for words in plan_for(NAT, ROOT, uplink=UPLINK).uplink:
        assert words[words.index("--runas") + 1] == "0:0"


def test_its_resolver_is_put_over_the_host_s_where_links_lead() -> None:
    ops = plan_for(NAT, HOST, uplink=UPLINK).ops
    (write,) = [op for op in ops if op.step is Step.WRITE and op.target == "/s/resolv.conf"]
    assert write.source == UPLINK.resolver
    mounts = [op for op in ops if op.step is Step.MOUNT]
    assert [op.target for op in mounts if op.source == "/s/resolv.conf"] == ["/new/run/resolv.conf"]
    assert not [
        op for op in plan_for(NAT, HOST, uplink=replace(UPLINK, resolver_path="")).ops if "resolv.conf" in op.target
    ]


def test_without_a_way_out_there_is_a_network_of_its_own_as_ever() -> None:
    assert plan_for(NAT, HOST) == plan_for(Spec(), HOST)
    assert unsupported(NAT, HOST) == []


def test_the_host_s_own_network_is_never_connected() -> None:
    plan = plan_for(NAT, HOST._replace(namespaces=HOST.namespaces & ~Clone.NEWNET), uplink=UPLINK)
    assert plan.uplink == ()
    assert not [op for op in plan.ops if "resolv.conf" in op.target]


def test_a_plan_s_programs_are_encoded_after_all_else() -> None:
    plan = plan_for(Spec(), HOST)
    assert plan.encode().endswith(b"\0\0\0\0")
    assert plan._replace(uplink=(("/p", "x"),)).encode() == (
        plan.encode()[:-4] + b"\1\0\0\0\2\0\0\0" + b"\2\0\0\0/p\0" + b"\1\0\0\0x\0"
    )


@pytest.mark.parametrize(
    ("text", "seen", "answered"),
    [
        ("nameserver 192.0.2.53\nsearch a b\n", "nameserver 192.0.2.53\nsearch a b\n", ()),
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.64.0.3\noptions edns0\n", ("10.64.0.3",)),
        ("# none\n", "# none\nnameserver 10.64.0.3\n", ("10.64.0.3",)),
        ("", "nameserver 10.64.0.3\n", ("10.64.0.3",)),
        ("nameserver ::1\n", "nameserver fd69:736f:6c61::3\n", ("fd69:736f:6c61::3",)),
        # pasta asks the first of a kind, so that one is asked by our address, and twice would be no use
        ("nameserver 192.0.2.53\nnameserver 127.0.0.1\n", "nameserver 10.64.0.3\n", ("10.64.0.3",)),
        (
            "nameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n",
            "nameserver 10.64.0.3\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n",
            ("10.64.0.3",),
        ),
        ("nameserver fe80::1%wlan0\n", "nameserver fe80::1%eth0\n", ()),
        ("nameserver\nnameserver nonsense\n", "nameserver\nnameserver nonsense\n", ()),
    ],
)
def test_a_server_on_the_host_s_loopback_is_asked_through_pasta(text: str, seen: str, answered: tuple[str]) -> None:
    assert pasta.resolver(text) == (seen, answered)
