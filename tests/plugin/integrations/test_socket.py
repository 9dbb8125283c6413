"""pytest-socket: it blocks inside and no further."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-socket")
def test_pytest_socket_blocks_inside_and_no_further(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_socket")
    neighbours.project.write(
        test_it="""
        import socket
        import pytest

        def test_blocked(): socket.socket()
        @pytest.mark.enable_socket
        def test_allowed(): socket.socket().close()
        @pytest.mark.allow_hosts(["127.0.0.1"])
        def test_other_hosts(): socket.create_connection(("192.0.2.1", 1))
        """
    )
    shown = neighbours.same("--disable-socket", "-rA")
    assert "2 failed, 1 passed" in shown
