"""Addresses as the kernel's table writes them."""

from __future__ import annotations

import socket
import sys

import pytest

from pytest_isolate.linux.tcp_table import decode, listening


@pytest.mark.skipif(sys.byteorder != "little", reason="the samples are of a little-endian machine")
@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("0100007F:0050", "127.0.0.1", 80),
        ("00000000000000000000000001000000:1F90", "::1", 8080),
        ("00000000:FFFF", "0.0.0.0", 65535),
    ],
)
def test_an_address_is_read(text: str, address: str, port: int) -> None:
    assert tuple(map(str, decode(text))) == (address, str(port))


def test_only_sockets_that_listen_are_listed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        ports = [decode(each.address)[1] for each in listening()]
        assert server.getsockname()[1] in ports
        assert client.getsockname()[1] not in ports
