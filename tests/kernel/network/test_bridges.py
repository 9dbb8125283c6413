"""Bridges on the real kernel: what a bridged sandbox has, what it does not reach, and what is left of it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate import Spec, run
from pytest_isolate.sandbox import helper_process
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from tests.support.helper_processes import helpers_of

pytestmark = pytest.mark.needs("sandbox", "netns")

BRIDGED = Spec.of(network="bridge", hostname="one.example")


def value(keeper: Keeper, spec: Spec, payload: Any) -> Any:
    outcome = run(spec, payload, keeper=keeper)
    assert outcome.failure() is None, outcome.error
    return outcome.value


def addresses(name: str) -> list[str]:
    return sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None)})


def test_a_bridged_sandbox_has_an_interface_with_two_addresses_and_its_own_name(keeper: Keeper) -> None:
    def payload() -> object:
        name = socket.gethostname()
        assert [each for _, each in socket.if_nameindex()][:2] == ["lo", "eth0"]
        for address in addresses(name):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with (
                socket.create_server((address, 80), family=family) as server,
                socket.create_connection(server.getsockname()[:2], timeout=5),
            ):
                pass
        return [name, addresses(name), addresses("localhost")]

    name, own, local = value(keeper, BRIDGED, payload)

    assert name == "one.example"
    assert [address.split(":")[0].split(".")[0] for address in own] == ["10", "fd69"]
    assert local == ["127.0.0.1", "::1"]


def test_its_link_local_address_can_be_used_at_once(keeper: Keeper) -> None:
    def payload() -> object:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            address, number = next(line.split()[:2] for line in table if line.startswith("fe80"))
        with socket.socket(socket.AF_INET6) as server:
            server.bind((":".join(address[at : at + 4] for at in range(0, 32, 4)), 0, 0, int(number, 16)))
            return socket.if_indextoname(int(number, 16))

    assert value(keeper, BRIDGED, payload) == "eth0"


def test_nothing_of_the_host_is_reached_from_a_bridge(keeper: Keeper) -> None:
    def refusals() -> object:
        found = []
        for address, family in (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6), *hosts_own):
            with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(ConnectionError):
                try:
                    sock.connect((address, port))
                    found.append("routed")
                except OSError as error:
                    found.append(errno.errorcode[error.errno or 0])
        with socket.socket() as sock:
            found.append(errno.errorcode[sock.connect_ex(("127.0.0.1", port))])
        return found

    hosts_own = [(address, socket.AF_INET) for address in _own_addresses()]
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        closed = Spec.of(network="bridge", host_ports="none")
        assert value(keeper, closed, refusals) == [*["ENETUNREACH"] * (2 + len(hosts_own)), "ECONNREFUSED"]


def _own_addresses() -> list[str]:
    """Addresses of this host that are not those of loopback."""
    found = set()
    for line in Path("/proc/net/fib_trie").read_text().split("Local:")[-1].split("|--")[1:]:
        words = line.split()
        if "host" in words and not words[0].startswith("127."):
            found.add(words[0])
    return sorted(found)


def test_two_sandboxes_of_one_network_follow_each_other_with_other_addresses(keeper: Keeper) -> None:
    first, second, other = (
        value(keeper, Spec.of(network=network), lambda: addresses(socket.gethostname())[0])
        for network in ("bridge:a", "bridge:a", "bridge:b")
    )

    assert first.rpartition(".")[0] == second.rpartition(".")[0] != other.rpartition(".")[0]
    assert first != second


def test_many_bridged_runs_leave_no_link_and_no_namespace() -> None:
    links_before, namespaces_before = set(os.listdir("/sys/class/net")), _namespaces()
    spec = Spec.of(network="bridge")
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        for _ in range(60):
            keeper.run(spec, lambda _: None, ahead=spec)
        assert keeper.sandboxes.builders.bridges is not None
        deadline = time.monotonic() + 20
        while len(links := keeper.sandboxes.builders.bridges.links()) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert links == ["lo", "br0"]

    assert set(os.listdir("/sys/class/net")) == links_before
    assert not _namespaces() - namespaces_before  # some of these may have gone: a sandbox of the test before


def _namespaces() -> set[str]:
    """The network namespaces that this process's helpers are in."""
    found = set()
    for pid in helpers_of(os.getpid(), b"isolate"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return found


def test_a_killed_broker_costs_one_run() -> None:
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        assert value(keeper, BRIDGED, lambda: 4) == 4
        assert keeper.sandboxes.builders.bridges is not None
        os.kill(keeper.sandboxes.builders.bridges.process.pid, signal.SIGKILL)

        with pytest.raises(SetupError, match=r"cannot reach the broker of networks on pid .*was it killed"):
            value(keeper, BRIDGED, lambda: None)

        assert value(keeper, BRIDGED, lambda: 5) == 5


def test_a_killed_builder_of_bridged_sandboxes_is_replaced() -> None:
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        keeper.check(BRIDGED)
        os.kill(keeper.sandboxes.builders.of(BRIDGED).pid, signal.SIGKILL)
        time.sleep(0.1)

        assert value(keeper, BRIDGED, lambda: 5) == 5
        assert value(keeper, BRIDGED, lambda: addresses("one.example")[0])[:3] == "10."


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            "import pyroute2; pyroute2.IPRoute.link = lambda *_, **__: (_ for _ in ()).throw(OSError(95, 'x'))",
            r"cannot make a network device of type bridge: ENOTSUP .*modprobe bridge \(CONFIG_BRIDGE\)",
        ),
        ("sys.modules['pyroute2'] = None", "cannot import pyroute2 .*pip install pyroute2"),
        (
            "import pytest_isolate.linux.native as n; n.unshare = lambda _: (_ for _ in ()).throw(OSError(28, 'x'))",
            "cannot make a network namespace for bridges: ENOSPC .*max_net_namespaces",
        ),
    ],
)
def test_what_the_host_lacks_for_bridges_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, broken: str, reason: str
) -> None:
    start = helper_process.START.replace("from {module}", f"{broken}; from {{module}}")
    monkeypatch.setattr(helper_process, "START", start)
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        for _ in range(2):  # asked once, told each time
            with pytest.raises(UnsupportedError, match=f"network cannot be enforced here: {reason}"):
                keeper.check(BRIDGED)
