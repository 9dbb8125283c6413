"""Redis on three nodes, all at its own port: two replicas follow the first, also after a cut.

Run it by ``pytest examples/redis``; needs Debian's redis-server.
"""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs Redis: sudo apt-get install redis-server"
)

SERVER = [
    "redis-server",
    "--bind",
    "*",
    "-::*",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--repl-diskless-sync-delay",
    "0",
]


def cli(node, *commands):
    """The answers to some commands, which go over one connection."""
    done = node.run(["redis-cli"], input="\n".join(commands), cwd="/tmp", capture_output=True, text=True)
    return done.stdout.splitlines()


def eventually(ask, expected, patience=20.0):
    """Ask until the answer is as expected, and say what it was at last."""
    deadline = time.monotonic() + patience
    while (answer := ask()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer == expected


@pytest.fixture
def replicas(isolate_network):
    one = isolate_network.node("one", memory="200M")
    one.popen(SERVER, cwd="/tmp", stdout=subprocess.DEVNULL)
    eventually(lambda: cli(one, "ping"), ["PONG"])
    for name in ("two", "three"):
        node = isolate_network.node(name, memory="200M")
        node.popen([*SERVER, "--replicaof", "one", "6379"], cwd="/tmp", stdout=subprocess.DEVNULL)
    eventually(lambda: cli(one, "set ready yes", "wait 2 500"), ["OK", "2"])
    return isolate_network


def test_a_replica_that_was_cut_off_catches_up(replicas):
    one, two, three = replicas.nodes.values()
    assert cli(one, "set fruit apple", "wait 2 5000") == ["OK", "2"]

    replicas.cut("one", "three")

    assert cli(one, "set fruit pear", "wait 2 500") == ["OK", "1"]
    assert [cli(node, "get fruit") for node in (two, three)] == [["pear"], ["apple"]]

    replicas.heal()

    eventually(lambda: cli(three, "get fruit"), ["pear"])
