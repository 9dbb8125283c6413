"""``network="nat"``: what is reached through pasta, what never is, and what a host without it is told.

Needs no internet: what a program opens at an address of this host's is opened by pasta on the host, as any other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.image_layers import entry, layout, link, programs, tar
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox", "netns")


#: Servers of this session: at the host's outside address, and on its loopback. They note who came.
SERVERS = """
    import contextlib, socket, threading
    import pytest

    def outside_address():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: udp(7)
            return probe.getsockname()[0]

    def heard(host, port, said=b"hello", *, kind=socket.SOCK_STREAM, device=None, patience=10):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as client:
            client.settimeout(patience)
            if device:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            try:
                client.connect((host, port))
                client.send(said)
                return client.recv(100).decode()
            except OSError as error:
                return type(error).__name__

    def checksum(data):
        words = data + b"\\0" * (len(data) % 2)
        total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return (~total & 0xFFFF).to_bytes(2, "big")

    class Server:
        def __init__(self, host, port=0):
            self.came = []
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.tcp = socket.create_server((host, port), family=family)
            self.address = self.tcp.getsockname()[:2]
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.udp.bind(self.address)
            for serve in (self.serve_tcp, self.serve_udp):
                threading.Thread(target=serve, daemon=True).start()

        def serve_tcp(self):
            while True:
                connection, _ = self.tcp.accept()
                self.came.append("tcp")
                with connection, contextlib.suppress(OSError):
                    words = connection.recv(100).decode().split()
                    answer = "tcp"
                    if words[:1] == ["connect"]:
                        answer = " ".join(heard(host, int(words[1]), patience=1) for host in words[2:])
                    connection.sendall(answer.encode())

        def serve_udp(self):
            while True:
                _, sender = self.udp.recvfrom(100)
                self.came.append("udp")
                self.udp.sendto(b"udp", sender)

    OUTSIDE = outside_address()

    @pytest.fixture(scope="session")
    def outside():
        return Server(OUTSIDE)

    @pytest.fixture(scope="session")
    def loopback():
        return Server("127.0.0.1")
"""
IMPORTS = """
    import os, socket, struct, time
    from pathlib import Path
    import pytest
    from conftest import OUTSIDE, Server, checksum, heard
"""


@pytest.mark.needs("nat")
def test_the_outside_is_reached_and_the_host_s_loopback_only_by_host_ports(project: Project) -> None:
    project.write(
        conftest=SERVERS,
        test_it=IMPORTS
        + """
    @pytest.mark.isolate(network="nat", hostname="inside")
    def test_the_outside(outside, loopback):
        assert heard(*outside.address) == "tcp"
        assert heard(*outside.address, kind=socket.SOCK_DGRAM) == "udp"
        assert heard(*loopback.address) == "tcp"  # by host_ports

    @pytest.mark.isolate(network="nat", host_ports="none")
    def test_no_loopback(outside, loopback):
        port = loopback.address[1]
        for host in ("127.0.0.1", "10.64.0.1", "10.64.0.2", "10.64.0.3"):
            assert heard(host, port, patience=0.5) != "tcp"
        for host in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                heard(host, port, kind=kind, device=b"eth0", patience=0.5)
        assert heard(*outside.address) == "tcp"

    @pytest.mark.isolate(network="nat", user="root", host_ports="none")
    def test_no_loopback_for_packets_that_no_kernel_sends(outside, loopback):
        assert heard(*outside.address) == "tcp"
        datagram = struct.pack("!HHHH", 4000, loopback.address[1], 11, 0) + b"raw"
        four = [socket.inet_aton(ip) for ip in ("10.64.0.2", "127.0.0.1")]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0) + b"".join(four)
        head = head[:10] + checksum(head) + head[12:]
        six = b"".join(socket.inet_pton(socket.AF_INET6, ip) for ip in ("fd69:736f:6c61::2", "::ffff:127.0.0.1"))
        sum6 = checksum(six + struct.pack("!II", len(datagram), 17) + datagram)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            mac = wire.getsockname()[4]
            wire.send(mac + mac + b"\\x08\\x00" + head + datagram)
            head6 = struct.pack("!IHBB", 6 << 28, len(datagram), 17, 64) + six
            wire.send(mac + mac + b"\\x86\\xdd" + head6 + datagram[:6] + sum6 + datagram[8:])
        time.sleep(0.5)

    def test_that_nobody_came(loopback):
        assert loopback.came == ["tcp"]

    @pytest.mark.isolate(network="nat")
    def test_nobody_comes_in(outside):
        server = Server("0.0.0.0")
        port = server.address[1]
        assert heard("10.64.0.2", port) == "tcp"
        refused = heard(*outside.address, f"connect {port} 127.0.0.1 {OUTSIDE}".encode())
        assert refused == "ConnectionRefusedError ConnectionRefusedError"

    @pytest.mark.isolate(network="nat")
    def test_its_programs_are_not_inside():
        names = [(entry / "comm").read_text() for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        assert len(names) == 2, names
        assert {name for _, name in socket.if_nameindex()} == {"lo", "eth0"}

    @pytest.mark.isolate
    def test_others_have_none_of_it():
        with socket.socket() as client, pytest.raises(OSError):
            client.connect((OUTSIDE, 9))
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    """,
    )

    project.run().assert_outcomes(passed=7)


@pytest.mark.needs("nat")
def test_it_is_the_same_on_an_image_whatever_that_has_for_a_resolver(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = tar(
        *(entry(path, content, mode=0o755) for path, content in programs("sh").items()),
        link("etc/resolv.conf", "/run/nowhere"),
        entry("tmp/", mode=0o1777),
    )
    layout(project.path / "fixtures_images/tiny", base)
    project.write(
        conftest=SERVERS,
        test_it=IMPORTS
        + """
    @pytest.mark.isolate(network="nat", image="tiny")
    def test_the_outside(outside):
        assert heard(*outside.address) == "tcp"
        assert "nameserver " in Path("/etc/resolv.conf").read_text()
        assert not Path("/etc/resolv.conf").is_symlink()
    """,
    )

    project.run().assert_outcomes(passed=1)


@pytest.mark.needs("nat", "real_root")
def test_names_are_asked_for_where_the_host_s_resolver_is_on_its_loopback(project: Project) -> None:
    address = f"127.53.{os.getpid() % 256}.{os.getpid() // 256 % 256}"  # not that of another run of these tests
    project.write(
        test_it="""
    import socket, threading
    import pytest

    @pytest.fixture(scope="session")
    def names():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((ADDRESS, 53))

        def serve():
            while True:
                query, sender = server.recvfrom(512)
                question = query[12 : query.index(b"\\0", 12) + 5]
                found = query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question
                record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4" + socket.inet_aton("192.0.2.77")
                nothing = query[:2] + b"\\x81\\x80\\0\\1\\0\\0\\0\\0\\0\\0" + question
                server.sendto(found + record if question[-3] == 1 else nothing, sender)

        threading.Thread(target=serve, daemon=True).start()

    @pytest.mark.isolate(network="nat")
    def test_it(names):
        assert socket.gethostbyname("somewhere.example") == "192.0.2.77"
        assert {info[4][0] for info in socket.getaddrinfo("somewhere.example", 80)} == {"192.0.2.77"}
    """.replace("ADDRESS", repr(address))
    )
    resolver = project.path / "resolv.conf"
    resolver.write_text(f"nameserver {address}\noptions edns0 trust-ad\n")
    script = f'mount --bind {resolver} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    command = [sys.executable, "-m", "pytest", *project.options, "-p", "no:cacheprovider"]

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        cwd=project.path,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )

    assert "1 passed" in done.stdout, done.stdout


def test_nothing_of_it_is_loaded_where_no_test_asks_for_it(project: Project) -> None:
    project.write(
        test_it="""
    import sys
    import pytest

    @pytest.mark.isolate
    def test_inside(): pass

    def test_outside():
        assert not {"pytest_isolate.plan.pasta", "pytest_isolate.sandbox.probe.nat"} & set(sys.modules)
    """
    )

    project.run().assert_outcomes(passed=2)
