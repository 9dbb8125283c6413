"""Cases: network, IPC, time, terminal and the process's own state."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import socket
import struct
import time
from functools import partial
from pathlib import Path

import pytest

from tests.cases.inside.machine import HOST, MARK, NO, X86, answer, in_child, libc, syscall


def test_no_outside() -> None:
    for address in ("192.0.2.1", "169.254.169.254", "10.0.0.1"):  # no machine's, that of clouds, a private one
        with socket.socket() as client:
            client.settimeout(20)
            assert answer(partial(client.connect, (address, 80))) == errno.ENETUNREACH
    with pytest.raises(OSError, match=r"\[Errno"):
        socket.getaddrinfo("example.com", 80)


def test_host_localhost_service() -> None:
    port: int = HOST["port"]
    with socket.socket() as client:
        assert answer(partial(client.connect, ("127.0.0.1", port))) == errno.ECONNREFUSED
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"from inside", ("127.0.0.1", port))


def test_ports_free() -> None:
    """The port that a server outside has, and those of privileged servers."""
    for port in (HOST["port"], 80, 443):
        socket.create_server(("127.0.0.1", port)).close()


def test_loopback_alone() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


@pytest.mark.isolate(user="root")
def test_hostname_private() -> None:
    assert socket.gethostname() == "isolated"
    socket.sethostname(MARK)
    assert libc.setdomainname(MARK.encode(), len(MARK)) == 0
    assert socket.gethostname() == MARK


@pytest.mark.isolate(user="root")
def test_packets_stay_inside() -> None:
    """Root inside makes raw packets of the sandbox's own loopback."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        assert answer(lambda: raw.bind(("eth0", 0))) == errno.ENODEV


def test_keyring_private() -> None:
    add_key, keyctl = (248, 250) if X86 else (217, 219)
    assert syscall(add_key, b"user", MARK.encode(), b"x", 1, -3) in NO
    assert syscall(keyctl, 0, -3, 1) in NO


def test_vsock() -> None:
    assert answer(lambda: socket.socket(40, socket.SOCK_STREAM).close()) != 0


def _push_back() -> list[int]:
    """CVE-2017-5226: what a sandboxed program pushes back into its terminal, the shell outside reads."""
    _, its = pty.openpty()
    os.setsid()
    fcntl.ioctl(its, 0x540E, 0)  # TIOCSCTTY: a terminal of its own
    codes = [answer(partial(fcntl.ioctl, its, 0x5412, b"x"))]  # TIOCSTI
    codes.append(answer(partial(fcntl.ioctl, its, 0x541C, struct.pack("B", 3))))  # TIOCLINUX
    return codes


def test_tiocsti() -> None:
    assert in_child(_push_back) == [errno.EPERM, errno.EPERM]


@pytest.mark.isolate(user="root")
def test_clock_private() -> None:
    """The clock of the machine is refused; those of boot begin with the sandbox, where there are time namespaces."""
    assert answer(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())) in NO
    offsets = Path("/proc/self/timens_offsets")
    assert not offsets.exists() or answer(lambda: offsets.write_text("monotonic 1 0\n")) != 0


def test_env_unchanged() -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert mask == HOST["umask"]
    assert os.getcwd() == HOST["folder"]
    assert {name: os.environ.get(name) for name in HOST["environment"]} == HOST["environment"]


def test_env_is_the_tests_own() -> None:
    os.environ[MARK] = "1"
    os.umask(0)
    os.chdir("/")


def test_env_is_as_before() -> None:
    assert MARK not in os.environ
    test_env_unchanged()
