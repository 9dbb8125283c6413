"""Networks of nodes on the real kernel: who reaches whom, how fast, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from pyroute2 import IPRoute

from pytest_isolate.session.cluster import Network
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from tests.support.in_nodes import heard, heard_of, serve

pytestmark = pytest.mark.needs("sandbox", "netns")


def test_twenty_nodes_reach_each_other_by_name_at_one_port(network: Network) -> None:
    nodes = [network.node(f"node-{number}") for number in range(20)]
    names = [node.name for node in nodes]
    for node in nodes:
        node.run(serve)

    for node in nodes:
        assert node.run(heard_of, names) == names
    assert nodes[0].run(heard_of, [nodes[1].ip, nodes[1].ip6]) == ["node-1"] * 2


def test_a_cut_holds_back_everything_between_two_nodes_and_nothing_else(network: Network) -> None:
    one, two, three = (network.node(name) for name in ("one", "two", "three"))
    for node in (one, two, three):
        node.run(serve)
    link_local = f"{two.place.address.link_local}%eth0"
    assert one.run(heard_of, ["two", two.ip6, link_local]) == ["two"] * 3

    network.cut("one", two)

    for address in (two.ip, two.ip6, link_local):
        assert one.run(heard, address, 0.2) == "TimeoutError"
    assert two.run(heard, "one", 0.2) == "TimeoutError"
    assert [one.run(heard, "three"), three.run(heard, "one"), two.run(heard, "three")] == ["three", "one", "three"]

    network.heal()

    assert one.run(heard_of, [two.ip, two.ip6, link_local]) == ["two"] * 3
    assert two.run(heard, "one") == "one"


def test_a_connection_outlives_a_cut_if_both_ends_wait(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    echo = "import socket; c, _ = socket.create_server(('', 80)).accept()\nwhile d := c.recv(9): c.sendall(d)"
    ask = (
        "import socket, sys, time\n"
        "while True:\n try: c = socket.create_connection(('one', 80)); break\n except OSError: time.sleep(.01)\n"
        "for line in sys.stdin: c.sendall(line.encode()); print(c.recv(9).decode(), end='', flush=True)"
    )
    one.popen([sys.executable, "-S", "-c", echo])
    asking = two.popen([sys.executable, "-S", "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert asking.stdin is not None
    assert asking.stdout is not None

    def asked(word: str) -> None:
        assert asking.stdin is not None
        asking.stdin.write(f"{word}\n")
        asking.stdin.flush()

    asked("a")
    assert asking.stdout.readline() == "a\n"
    network.cut(one, two)
    asked("b")
    time.sleep(0.3)
    network.heal()
    assert asking.stdout.readline() == "b\n"


def test_two_networks_do_not_see_each_other(keeper: Keeper, network: Network) -> None:
    here = network.node("here")
    with Network(keeper) as other:
        there = other.node("there")
        there.run(serve)
        assert there.run(heard, "there") == "there"

        assert here.run(heard_of, [there.ip, there.ip6]) == ["ENETUNREACH"] * 2
        assert here.run(heard, "there") not in ("there", "ETIMEDOUT")
        # Even with an address of the other's range there is nobody on the wire.
        assert "0 received" in here.run(_ping_from_their_range, there.ip) or os.geteuid() != 0


def _ping_from_their_range(ip: str) -> str:
    """Only root inside may; for others there is nothing to see."""
    if os.geteuid() != 0:
        return ""
    with IPRoute() as netlink:
        end = netlink.link_lookup(ifname="eth0")[0]
        netlink.addr("add", index=end, address=ip.rpartition(".")[0] + ".200", prefixlen=16)
    return "0 received" if heard(ip, 0.3) in ("TimeoutError", "EHOSTUNREACH") else "reached"


def test_a_slow_network_is_slow(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    one.run(serve)
    two.run(heard, "one")

    def seconds() -> float:
        start = time.monotonic()
        assert heard("one") == "one"
        return time.monotonic() - start

    try:
        network.delay("200ms")
    except UnsupportedError as lack:
        assert re.search("cannot add a netem queue .*CONFIG_NET_SCH_NETEM", str(lack))  # noqa: PT017 - else it is had
    else:
        assert two.run(seconds) > 0.79  # twice to be connected, twice to be told
        late = network.node("late")
        assert late.run(seconds) > 0.79
        network.delay(0)
        network.loss(1.0)
        assert two.run(heard, "one", 0.2) == "TimeoutError"
        network.loss(0)
    assert two.run(seconds) < 0.7


def test_a_narrow_network_is_slow_for_much(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    code = "import socket; c, _ = socket.create_server(('', 81)).accept()\nwhile c.recv(99999): pass\nc.sendall(b'x')"

    def seconds(host: str) -> float:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection((host, 81)) as connection:
                start = time.monotonic()
                connection.sendall(bytes(400_000))
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
                return time.monotonic() - start
            time.sleep(0.05)
        return -1

    one.popen([sys.executable, "-S", "-c", code])
    assert 0 < two.run(seconds, "one") < 0.3
    with pytest.raises(ValueError, match=r"rate\('fast'\): allowed is bytes"):
        network.rate("fast")
    network.rate("500K")
    for node in (one, network.node("late")):
        node.popen([sys.executable, "-S", "-c", code])
        assert 0.4 < two.run(seconds, node.name) < 5
    network.rate(None)


def test_a_network_needs_a_plain_name_of_its_own(keeper: Keeper) -> None:
    with Network(keeper, "name") as network:
        with pytest.raises(ValueError, match="there is a network 'name' already"):
            Network(keeper, "name")
        with pytest.raises(ValueError, match="allowed as the name of a bridge"):
            Network(keeper, "a b")
    with pytest.raises(SetupError, match=r"cannot make the node on late\. Its network has been closed"):
        network.node("late")
    with Network(keeper, "name") as again:
        again.node("one")


def test_networks_that_follow_each_other_use_the_same_plans(keeper: Keeper) -> None:
    plans = []
    for _ in range(3):
        with Network(keeper) as network:
            network.node("same")
            plans.append(len(keeper.sandboxes._planned))
    assert plans == [plans[0]] * 3


def test_nodes_whose_broker_has_died_cannot_be_cut_apart_though_there_is_another_by_now(
    keeper: Keeper, network: Network
) -> None:
    network.node("one"), network.node("two")
    assert keeper.sandboxes.builders.bridges is not None
    os.kill(keeper.sandboxes.builders.bridges.process.pid, signal.SIGKILL)
    with pytest.raises(SetupError, match="cannot reach the broker of networks"):
        network.node("lost")
    network.node("three")

    with pytest.raises(SetupError, match="cannot reach the broker of networks"):
        network.cut("one", "two")
    with pytest.raises(SetupError, match=r"between one and three.*make both nodes anew"):
        network.cut("one", "three")


def test_wrong_words_are_told(network: Network) -> None:
    one = network.node("one")
    with pytest.raises(ValueError, match="there is no node 'tow'; there are one"):
        network.cut(one, "tow")
    with pytest.raises(ValueError, match="cannot be cut off from itself"):
        network.cut(one, one)
    with pytest.raises(ValueError, match="20ms"):
        network.delay("soon")
    with pytest.raises(ValueError, match="from 0 to 1"):
        network.loss(20)
    with pytest.raises(TypeError, match="one list"):
        one.run(["ls"], "-l")


HOLDS_A_CONNECTION = """
import socket, time
connection = socket.create_connection(("two", 80))
print(connection.recv(1).decode(), end="", flush=True)
time.sleep(100)
"""


def test_a_network_leaves_nothing(keeper: Keeper) -> None:
    with Network(keeper) as network:
        one, two = network.node("one"), network.node("two")
        process = one.popen(["sleep", "100"], stdout=subprocess.PIPE)
        two.run(serve)
        # One end of a connection that cannot tell the other that it ends.
        holder = one.popen([sys.executable, "-S", "-c", HOLDS_A_CONNECTION], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.read(1) == b"t"
        network.cut(one, two)
    assert process.returncode == -signal.SIGKILL
    assert keeper.sandboxes._held == {}
    assert keeper.sandboxes.builders.bridges is not None
    deadline = time.monotonic() + 10
    while len(links := keeper.sandboxes.builders.bridges.links()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert links == ["lo"]
