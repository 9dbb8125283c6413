"""Networks of nodes on the real kernel: who reaches whom, what runs in a node, and what is left of it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from pytest_isolate.errors import SetupError, SpecError, UnsupportedError
from pytest_isolate.networks import Network
from pytest_isolate.nodes import Node, NodeError
from pytest_isolate.session import Keeper

pytestmark = pytest.mark.needs("sandbox", "netns")

PORT = 80


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        yield keeper


@pytest.fixture
def network(keeper: Keeper) -> Iterator[Network]:
    with Network(keeper) as network:
        yield network


def serve() -> None:
    """Start a server that tells its node's name to whoever connects."""
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    if os.fork() == 0:
        os.setsid()
        while True:
            connection, _ = server.accept()
            connection.sendall(socket.gethostname().encode())
            connection.close()


def heard(host: str, patience: float = 5) -> str:
    """What that server tells; the name of the error if there is none."""
    try:
        with socket.create_connection((host, PORT), timeout=patience) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def heard_of(hosts: list[str]) -> list[str]:
    return [heard(host) for host in hosts]


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


def test_a_program_in_a_node_is_a_subprocess_like_any_other(network: Network, tmp_path: Path) -> None:
    node = network.node("one", env={"COLOUR": "red", "HOME": None})
    (tmp_path / "here").touch()

    script = "cat; ls; echo $COLOUR $HOME >&2; exit 3"
    done = node.run(["sh", "-c", script], input="in", capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "inhere\n", "red\n")
    with pytest.raises(subprocess.CalledProcessError):
        node.run(["false"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        node.run(["sleep", "100"], timeout=0.1)
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        node.run(["no-such-program"], env={"PATH": "/usr/bin:/bin"})  # all of which may be searched
    with pytest.raises(FileNotFoundError):
        node.run(["true"], cwd="/no/such/folder")
    with pytest.raises(TypeError, match="preexec_fn would act outside"):
        node.popen(["true"], preexec_fn=print)
    shell = node.popen(
        "echo $0 $$; exec sleep 100", shell=True, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    assert shell.stdout is not None
    assert shell.stdout.readline().split()[0] == b"/bin/sh"
    for number, how in ((signal.SIGTERM, shell.terminate), (signal.SIGKILL, node.popen(["sleep", "100"]).kill)):
        how()
        assert how.__self__.wait(10) == -number  # type: ignore[attr-defined]
    assert _left(node) == []


def _left(node: Node) -> list[str]:
    """Commands in a node but PID 1 and what asks."""
    found = node.run(["sh", "-c", "cat /proc/[0-9]*/comm"], capture_output=True, text=True).stdout.split()
    return [name for name in found if name not in ("isolate-init", "sh", "cat")]


def test_what_runs_in_a_node_has_no_more_rights_than_a_test(network: Network) -> None:
    node = network.node("one")
    names = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp:", "NSpid")
    program = node.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout

    function = str(node.run(lambda: Path("/proc/self/status").read_text()))

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(names[:4])]

    assert lines(program) == lines(function)
    assert "NoNewPrivs:\t1" in program
    assert "Seccomp:\t2" in program
    assert node.run(["ls", "/proc/self/fd"], stdout=subprocess.DEVNULL).returncode == 0  # which takes being dumpable


def test_no_descriptor_of_another_node_gets_into_a_node(network: Network) -> None:
    nodes = [network.node(name) for name in ("one", "two", "three")]

    def links() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return found

    mine = set(links())
    inside = set(nodes[0].run(links))
    assert not [link for link in inside - mine if "pidfd" in link or "cgroup" in link]
    assert not [link for link in inside if "pidfd" in link or link.endswith(("/tasks", "cgroup.procs"))]
    listed = nodes[1].run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True).stdout
    assert "pidfd" not in listed
    assert len([line for line in listed.splitlines() if " -> " in line]) == 4  # the standard ones, and that of ls


def test_a_function_that_raises_is_told_with_its_traceback(network: Network) -> None:
    def fails() -> None:
        raise LookupError("nothing there")

    node = network.node("one")
    with pytest.raises(NodeError, match=r"(?s)node one: raised LookupError: nothing there.*in fails"):
        node.run(fails)
    with pytest.raises(NodeError, match="killed by SIGKILL"):
        node.run(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert node.run(lambda number: number + 1, 1) == 2


@pytest.mark.needs("memory")
def test_a_node_has_limits_of_its_own(network: Network) -> None:
    node = network.node("one", memory="50M")

    assert node.run([sys.executable, "-S", "-c", "b'x' * 200_000_000"]).returncode == -signal.SIGKILL
    peak = node.usage().memory_peak_bytes
    assert peak is not None
    assert 40 << 20 < peak <= 50 << 20


def test_traffic_of_each_node_is_counted(network: Network) -> None:
    one, two, idle = (network.node(name) for name in ("one", "two", "idle"))
    one.run(serve)
    before = two.usage()
    for _ in range(10):
        assert two.run(heard, "one") == "one"
    after = two.usage()

    assert 500 < after.bytes_out - before.bytes_out < 20_000
    assert after.packets_in - before.packets_in >= 30
    assert one.usage().packets_out >= 30
    assert idle.usage().bytes_out < 2000
    assert after.wall_seconds > before.wall_seconds


@pytest.mark.needs("freezer")
def test_a_frozen_node_stands_still_until_it_is_thawed(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    one.run(serve)

    one.freeze()
    frozen = two.run(heard, "one", 0.3)
    for what in (["true"], int):
        with pytest.raises(SetupError, match=r"cannot enter the node on one\. It is frozen; thaw\(\) it first"):
            one.run(what)
    one.thaw()

    assert frozen == "TimeoutError"
    assert two.run(heard, "one") == "one"
    one.freeze()
    one.kill()  # also dies when frozen


def test_a_stopped_node_has_time_to_end_and_its_name_is_gone(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    loop = "echo up; while :; do sleep .05; done"
    trap, stubborn = (
        one.popen(f"trap '{what}' TERM; {loop}", shell=True, stdout=subprocess.PIPE)
        for what in ("echo bye; exit 5", "")
    )
    for process in (trap, stubborn):
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

    one.stop(patience=0.5)

    assert trap.communicate() == (b"bye\n", None)
    assert (trap.returncode, stubborn.returncode) == (5, -signal.SIGKILL)
    assert "one" not in two.run(["cat", "/etc/hosts"], capture_output=True, text=True).stdout
    with pytest.raises(SetupError, match=r"cannot enter the node on one\. It has been stopped or killed"):
        one.run(["true"])
    with pytest.raises(SetupError, match="It has been stopped or killed"):
        network.cut("one", "two")
    assert network.node("one").run(lambda: "again") == "again"


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


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"memroy": "50M"}, "there is no key 'memroy'.*Did you mean memory"),
        ({"memory": "lots"}, "memory='lots': allowed is"),
        ({"network": "host"}, "network is no key of a node"),
        ({"name": "a b"}, "hostname='a b': allowed are letters"),
        ({"name": "twice"}, "there is a node of that name"),
    ],
)
def test_a_wrong_node_is_told(network: Network, keys: dict[str, str], problem: str) -> None:
    network.node("twice")
    with pytest.raises(SpecError, match=problem):
        network.node(**{"name": "one", **keys})


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
            plans.append(len(keeper.sandboxes._plans))
    assert plans == [plans[0]] * 3


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
    assert keeper.sandboxes._bridges is not None
    deadline = time.monotonic() + 10
    while len(links := keeper.sandboxes._bridges.links()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert links == ["lo"]
