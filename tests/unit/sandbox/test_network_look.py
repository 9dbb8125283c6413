"""Where a test wanted to go, as its process hears it."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from pytest_isolate.sandbox import network_look
from pytest_isolate.sandbox.network_look import Attempts, Names

V4, V6 = SimpleNamespace(family=socket.AF_INET), SimpleNamespace(family=socket.AF_INET6)


@pytest.fixture
def unroutable(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the kernel counts, look by look."""
    counts = [5, 5]
    monkeypatch.setattr(network_look, "_count_unroutable", lambda: counts.pop(0))
    return counts


def left(attempts: Attempts) -> list[str]:
    return [str(leak) for leak in attempts.left(lambda host, _: host != "inside")]


@pytest.mark.usefixtures("unroutable")
def test_places_are_told_with_their_ports_and_how_often() -> None:
    attempts = Attempts()
    for event, arguments in (
        ("socket.connect", (V4, ("192.0.2.1", 80))),
        ("socket.connect", (V4, ("192.0.2.1", 80))),
        ("socket.sendto", (V6, ("2001:db8::1", 53, 0, 0))),
        ("socket.getaddrinfo", (b"www.example.com", "https", 0, 0, 0)),
        ("socket.gethostbyname", ("example.org.",)),
        ("socket.connect", (V4, ("inside", 80))),
    ):
        attempts.hear(event, arguments)

    assert left(attempts) == [
        "network 192.0.2.1:80 (2 times)",
        "network [2001:db8::1]:53",
        "network www.example.com:https",
        "network example.org",
    ]


@pytest.mark.usefixtures("unroutable")
def test_what_is_no_place_on_the_network_is_not_heard() -> None:
    attempts = Attempts()
    for event, arguments in (
        ("open", ("/etc/hosts", "r", 0)),
        ("socket.connect", (SimpleNamespace(family=socket.AF_UNIX), "/run/socket")),
        ("socket.connect", (SimpleNamespace(family=16), (0, 0))),
        ("socket.sendmsg", (V4, None)),
        ("socket.sendmsg", (V4,)),
        ("socket.connect", (V4, ())),
        ("socket.getaddrinfo", (None, 80, 0, 0, 0)),
    ):
        attempts.hear(event, arguments)

    assert left(attempts) == []


def test_of_programs_the_number_is_told_if_nothing_else_is_known(unroutable: list[int]) -> None:
    unroutable[:] = [5, 8]
    assert left(Attempts()) == ["network unknown (3 packets without a route, of a program)"]
    unroutable[:] = [5, 8]
    attempts = Attempts()
    attempts.hear("socket.connect", (V4, ("192.0.2.1", 80)))
    assert left(attempts) == ["network 192.0.2.1:80"]


@pytest.mark.usefixtures("unroutable")
def test_only_so_many_places_are_remembered() -> None:
    attempts = Attempts()
    for port in range(1, 1000):
        attempts.hear("socket.connect", (V4, ("192.0.2.1", port)))
    assert len(left(attempts)) == 50


@pytest.mark.parametrize("host", ["", "localhost", "app.localhost", socket.gethostname(), "127.0.0.1", "127.1"])
def test_the_sandbox_itself_is_not_outside(host: str) -> None:
    assert not Names().is_outside(host, looked_up=False)


def test_a_name_that_nobody_here_knows_is_outside() -> None:
    assert Names().is_outside("www.example.com", looked_up=True)
    assert not Names().is_outside("192.0.2.1", looked_up=True)
