"""Three nodes, one server each at the same port, and a network that is cut and healed under them.

Run it by ``pytest examples/cluster``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from register import ask

NAMES = ["one", "two", "three"]


@pytest.fixture
def cluster(isolate_network):
    for name in NAMES:
        node = isolate_network.node(name)
        command = [sys.executable, str(Path(__file__).with_name("register.py")), *NAMES]
        server = node.popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
    return isolate_network


@pytest.fixture
def at(cluster):
    """Ask the server of a node, from within that node."""
    return lambda name, *request: cluster.nodes[name].run(ask, name, list(request))


def test_what_is_written_at_one_node_is_read_at_all(at):
    assert at("one", "write", "apple")
    assert [at(name, "read") for name in NAMES] == ["apple"] * 3


def test_most_nodes_go_on_without_one_that_is_cut_off_and_it_catches_up(cluster, at):
    assert at("three", "write", "apple")

    cluster.cut("three", "one")
    cluster.cut("three", "two")

    assert at("one", "write", "pear")
    assert at("two", "read") == "pear"
    assert not at("three", "write", "plum")
    assert at("three", "read") is None

    cluster.heal()

    assert at("three", "read") == "pear"
    assert at("three", "write", "plum")
    assert at("one", "read") == "plum"


def test_a_node_that_dies_takes_nothing_with_it(cluster, at):
    assert at("one", "write", "apple")

    cluster.nodes["one"].kill()

    assert at("two", "read") == "apple"
    assert at("three", "write", "pear")
