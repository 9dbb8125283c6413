"""The sandbox's own host name has an address, whatever the test asks for, and a fixture's names have theirs."""

from __future__ import annotations

import os
import shlex
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")


def test_the_own_name_has_an_address_with_each_network_and_name(project: Any) -> None:
    project.pytester.makepyfile("""
        import http.server, socket, subprocess
        import pytest

        def asked():
            name = socket.gethostname()
            assert socket.gethostbyname(name) == "127.0.0.1"
            assert socket.getaddrinfo(name, 80, socket.AF_INET6)[0][4][0] == "::1"
            assert socket.gethostbyname(socket.getfqdn()) == "127.0.0.1"
            assert socket.gethostbyname("localhost") == "127.0.0.1"
            assert subprocess.check_output(["hostname", "-f"], text=True).strip() == name
            http.server.HTTPServer((name, 0), http.server.BaseHTTPRequestHandler).server_close()

        @pytest.mark.isolate
        def test_plain():
            asked()

        @pytest.mark.isolate(hostname="db.example.com")
        def test_named():
            asked()

        @pytest.mark.isolate(network="host", user="root")
        def test_with_the_hosts_network():
            asked()
    """)
    project.run().assert_outcomes(passed=3)


def test_platform_knows_the_sandboxs_name_whoever_asked_for_the_hosts_before(project: Any) -> None:
    project.pytester.makepyfile("""
        import platform, socket
        import pytest

        HOST = platform.node()

        @pytest.fixture(scope="module")
        def asked_again():
            assert platform.node() == socket.gethostname() == HOST

        @pytest.mark.isolate(hostname="one")
        def test_one():
            assert platform.node() == platform.uname().node == socket.gethostname() == "one"

        @pytest.mark.isolate(hostname="two")
        def test_two(asked_again):
            assert platform.node() == platform.uname().node == socket.gethostname() == "two"

        def test_outside():
            assert platform.node() == HOST
    """)
    project.run().assert_outcomes(passed=3)


@pytest.mark.parametrize("place", ["/etc/hosts", "/etc"])
def test_what_a_fixture_adds_is_seen_by_the_next_test(place: str, project: Any) -> None:
    """Its sandbox has been standing ready since before."""
    project.pytester.makepyfile("""
        import socket
        import pytest

        @pytest.mark.isolate
        @pytest.mark.parametrize("time", range(3))
        def test_before(time):
            with pytest.raises(OSError):
                socket.gethostbyname("of-fixture")

        @pytest.fixture(scope="module")
        def name():
            with open("/etc/hosts", "a") as file:
                file.write("127.0.0.7 of-fixture\\n")

        @pytest.mark.isolate
        def test_after(name, isolated):
            assert socket.gethostbyname("of-fixture") == "127.0.0.7"
            assert socket.gethostbyname("isolated") == "127.0.0.1"
    """)
    command = [*map(str, project.pytester._getpytestargs()), "-p", "no:cacheprovider"]
    script = f"cp -rp {place} copy; mount --bind copy {place} && exec {shlex.join(command)}"

    result = project.pytester.run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)

    result.assert_outcomes(passed=4)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the file is no mount in the sandbox")
def test_a_read_only_mount_at_its_place_has_the_name_and_stays_read_only(project: Any) -> None:
    """As in a container with a read-only root."""
    project.pytester.makepyfile("""
        import errno, socket
        import pytest

        @pytest.mark.isolate
        def test_it():
            assert socket.gethostbyname("isolated") == "127.0.0.1"
            with pytest.raises(OSError) as info:
                open("/etc/hosts", "a").close()
            assert info.value.errno == errno.EROFS
    """)
    command = [*map(str, project.pytester._getpytestargs()), "-p", "no:cacheprovider", *project.options]
    read_only = "cp /etc/hosts copy && mount --bind copy /etc/hosts && mount -o remount,bind,ro /etc/hosts"

    result = project.pytester.run("unshare", "--mount", "sh", "-c", f"{read_only} && exec {shlex.join(command)}")

    result.assert_outcomes(passed=1)
