"""Whose servers on loopback are the session's: from /proc, this machine's and made-up ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_isolate.session.network.session_listeners import COOKIE, Lookup, LoopbackAddress, addresses
from pytest_isolate.spec.errors import SetupError

MINE = os.geteuid()
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def swapped(text: str) -> str:
    """An address of the table as this machine shows it: words of network order, read as numbers of its own."""
    words = [text[at : at + 8] for at in range(0, len(text), 8)]
    return "".join(f"{int.from_bytes(bytes.fromhex(word), sys.byteorder):08X}" for word in words)


@pytest.mark.parametrize(
    ("raw", "hosts"),
    [
        ("7F000001", ["127.0.0.1"]),
        ("7F000105", ["127.0.1.5"]),
        ("00000000", ["127.0.0.1"]),
        ("0A000001", []),
        ("00000000000000000000000000000001", ["::1"]),
        ("00000000000000000000000000000000", ["::1", "127.0.0.1"]),
        ("00000000000000000000FFFF7F000001", ["127.0.0.1"]),
        ("00000000000000000000FFFF00000000", ["127.0.0.1"]),
        ("20010DB8000000000000000000000001", []),
    ],
)
def test_an_address_of_the_kernels_table_is_one_on_loopback_or_none(raw: str, hosts: list[str]) -> None:
    assert addresses(f"{swapped(raw)}:1F90") == tuple(LoopbackAddress(host, 8080) for host in hosts)


class Machine:
    """A made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self/net").mkdir(parents=True)
        self.table("tcp")

    def table(self, name: str, *lines: tuple[str, str, int, int]) -> None:
        """Lines of local address, state, uid, inode."""
        text = "".join(
            f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1\n"
            for address, state, uid, inode in lines
        )
        (self.root / "self/net" / name).write_text(HEADER + text)

    def process(self, pid: int, parent: int, *inodes: int, environment: str = "") -> None:
        directory = self.root / str(pid)
        (directory / "fd").mkdir(parents=True)
        (directory / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1\n")
        (directory / "environ").write_text(environment)
        for number, inode in enumerate(inodes):
            (directory / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def at(port: int) -> str:
    return f"{swapped('7F000001')}:{port:04X}"


def ports(lookup: Lookup) -> list[int]:
    return [address.port for address in lookup.listeners()]


def test_listeners_of_the_tree_and_of_those_that_left_it_are_the_sessions_and_no_others(machine: Machine) -> None:
    machine.table("tcp", *((at(port), "0A", MINE, port) for port in range(1, 8)), (at(8), "01", MINE, 8))
    machine.process(50, 1, 6)  # a shell
    machine.process(100, 50, 1, 8)  # pytest
    machine.process(101, 100, 2)
    machine.process(102, 101, 3)
    machine.process(200, 1, 4, environment=f"A=B\0{COOKIE}=session-a\0C=D\0")
    machine.process(201, 1, 5, environment=f"{COOKIE}=session-ab\0X{COOKIE}=session-a\0")
    assert ports(Lookup(100, "session-a", machine.root)) == [1, 2, 3, 4]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every process")
def test_listeners_of_another_user_are_not_asked_about(machine: Machine) -> None:
    machine.table("tcp", (at(1), "0A", MINE + 1, 1))
    machine.process(100, 50, 1)
    assert ports(Lookup(100, "session", machine.root)) == []


def test_a_listener_that_is_known_is_not_looked_for_again_and_one_that_closed_is_forgotten(machine: Machine) -> None:
    machine.table("tcp", (at(1), "0A", MINE, 1), (at(2), "0A", MINE, 2))
    machine.process(100, 50, 1)
    lookup = Lookup(100, "session", machine.root)
    assert ports(lookup) == [1]
    (machine.root / "100/fd/0").unlink()
    assert ports(lookup) == [1]
    machine.table("tcp", (at(2), "0A", MINE, 2))
    assert ports(lookup) == []


def test_a_server_of_this_very_machine_is_found_on_both_stacks() -> None:
    code = """
import socket, sys
socks = [
    socket.create_server(("127.0.0.1", 0)),
    socket.create_server(("::", 0), family=socket.AF_INET6),
    socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True),
]
print(*(sock.getsockname()[1] for sock in socks), flush=True)
sys.stdin.read()
"""
    program = [sys.executable, "-c", code]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        four, six, dual = map(int, server.stdout.readline().split())
        found = set(Lookup(server.pid, "nobody's").listeners())
        server.communicate("")
    assert found == {
        LoopbackAddress("127.0.0.1", four),
        LoopbackAddress("::1", six),
        LoopbackAddress("::1", dual),
        LoopbackAddress("127.0.0.1", dual),
    }


def test_a_server_beside_the_session_is_not_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours, subprocess.Popen(["sleep", "60"]) as other:
        assert LoopbackAddress("127.0.0.1", ours.getsockname()[1]) not in Lookup(other.pid, "nobody's").listeners()
        other.kill()


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "self/net/tcp").unlink()
    (tmp_path / "self/net/tcp").mkdir()  # EISDIR, for root too

    with pytest.raises(SetupError, match=r"cannot look for this session's servers on .*/self/net/tcp: EISDIR"):
        Lookup(1, "name", machine.root).listeners()
